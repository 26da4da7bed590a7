# SPDX-License-Identifier: Apache-2.0
"""Asks oslo.policy whether a caller may do something."""

from __future__ import annotations

from oslo_config import cfg
from oslo_policy import policy

from qinling_exec import exceptions, policies
from qinling_exec.context import RequestContext


def build(conf: cfg.ConfigOpts) -> policy.Enforcer:
    """Return an enforcer that knows every rule; a file may override them."""
    enforcer = policy.Enforcer(conf)
    enforcer.register_defaults(policies.list_rules())
    return enforcer


def get_enforcer() -> policy.Enforcer:
    """Return the enforcer for oslo.policy's command line tools."""
    from qinling_exec import conf  # the tools bring no configuration of ours

    return build(conf.load())


def check(enforcer: policy.Enforcer, context: RequestContext, rule: str) -> None:
    """Let an operation pass or stop it.

    Whose an object is was decided before, by what the caller's queries can see: the target
    is the caller's own project.

    :raises qinling_exec.exceptions.NotAllowed: the rule says no.
    """
    enforcer.authorize(rule, {"project_id": context.project}, context, do_raise=True,
                       exc=exceptions.NotAllowed)

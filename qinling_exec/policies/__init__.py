# SPDX-License-Identifier: Apache-2.0
"""Who may do what: one rule for each operation, defaults in code."""

from __future__ import annotations

from oslo_policy import policy

from qinling_exec.policies import aliases, base, executions, functions, runtimes, versions

_RESOURCES = (executions, functions, versions, aliases, runtimes)


def list_rules() -> list[policy.RuleDefault]:
    """Return every rule, for oslo.policy and its generators."""
    return [*base.RULES, *(rule for module in _RESOURCES for rule in module.RULES)]

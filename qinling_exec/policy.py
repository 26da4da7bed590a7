# SPDX-License-Identifier: Apache-2.0
"""Asks oslo.policy whether a caller may do something."""

from __future__ import annotations

import logging
import os
import threading
import time

from oslo_config import cfg
from oslo_policy import policy

from qinling_exec import exceptions, policies
from qinling_exec.context import RequestContext

LOG = logging.getLogger(__name__)
#: How often the policy files are looked at, in seconds.
_LOOK_SECONDS = 1.0

#: What tells whether a file is the one that was read: its path, change time, inode and size.
_Stamp = tuple[str, int, int, int]


class Policy:
    """The rules in force: the defaults, and what the operator's files say instead.

    A changed file is read anew beside the rules in force and takes their place at once; one
    that can't be read changes nothing.

    :raises qinling_exec.exceptions.InputError: a file can't be read.
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf
        self._lock = threading.Lock()
        self._stamps = _stamps(conf)
        self._enforcer = _load(conf)
        self._looked = time.monotonic()

    def allows(self, rule: str, context: RequestContext, project_id: str | None) -> bool:
        """Tell whether a rule lets a caller do something with a project's objects."""
        self._look()
        return bool(self._enforcer.authorize(rule, {"project_id": project_id}, context))

    def _look(self) -> None:
        """Follow the files; one thread at a time, the others go on with what there is."""
        if time.monotonic() - self._looked < _LOOK_SECONDS or not self._lock.acquire(False):
            return
        try:
            stamps = _stamps(self._conf)
            if stamps != self._stamps:
                self._stamps = stamps
                self._enforcer = _load(self._conf)
                LOG.info("The policy was read anew: it had changed.")
        except exceptions.InputError as error:
            LOG.error("%s The rules stay as they were.", error)
        finally:
            self._looked = time.monotonic()
            self._lock.release()


def build(conf: cfg.ConfigOpts) -> Policy:
    """Return the rules; a file may override each of them."""
    return Policy(conf)


def get_enforcer() -> policy.Enforcer:
    """Return the enforcer for oslo.policy's command line tools."""
    from qinling_exec import conf  # the tools bring no configuration of ours

    return _registered(conf.load())


def check(rules: Policy, context: RequestContext, rule: str) -> None:
    """Let an operation pass or stop it.

    Whose an object is was decided before, by what the caller's queries can see: the target
    is the caller's own project.

    :raises qinling_exec.exceptions.NotAllowed: the rule says no.
    """
    if not context.project_id:
        raise exceptions.NotAllowed("Operation not allowed: it needs a token for a project.")
    if not rules.allows(rule, context, context.project_id):
        raise exceptions.NotAllowed()


def _registered(conf: cfg.ConfigOpts) -> policy.Enforcer:
    enforcer = policy.Enforcer(conf)
    # The sample and the release notes tell of them; at each start nobody reads that.
    enforcer.suppress_default_change_warnings = True
    enforcer.register_defaults(policies.list_rules())
    return enforcer


def _load(conf: cfg.ConfigOpts) -> policy.Enforcer:
    enforcer = _registered(conf)
    try:
        enforcer.load_rules()
        enforcer.check_rules(raise_on_violation=True)
    except (policy.InvalidDefinitionError, OSError, ValueError, AttributeError, TypeError,
            cfg.ConfigFilesPermissionDeniedError) as error:
        names = ", ".join(dict.fromkeys(path for path, *_ in _stamps(conf)))
        raise exceptions.InputError(
            f"The policy can't be read ({names}): {error} Check it with oslopolicy-validator."
        ) from error
    enforcer.use_conf = False  # from here on the files are looked at by Policy
    return enforcer


def _stamps(conf: cfg.ConfigOpts) -> list[_Stamp]:
    """Return the state of each policy file that there is."""
    options = conf.oslo_policy
    found = [conf.find_file(options.policy_file)] if options.policy_file else []
    for name in options.policy_dirs:
        folder = conf.find_file(name)
        if folder and os.path.isdir(folder):
            found += sorted(os.path.join(folder, entry) for entry in os.listdir(folder))
    stamps = []
    for path in filter(None, found):
        try:
            state = os.stat(path)
        except OSError:
            continue
        stamps.append((path, state.st_mtime_ns, state.st_ino, state.st_size))
    return stamps

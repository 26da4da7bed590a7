# SPDX-License-Identifier: Apache-2.0
"""Unified limits: Keystone keeps them, oslo.limit asks for them."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from keystoneauth1 import loading
from oslo_config import cfg
from oslo_limit import limit, opts

from qinling_exec import exceptions
from qinling_exec.quota.limits import RESOURCES

LOG = logging.getLogger(__name__)
_GROUP = "oslo_limit"
#: Projects whose limits are kept.
_KEPT = 10000
#: Seconds that Keystone may take; by itself the library waits for ever.
_PATIENCE = 5
#: Seconds for which Keystone is left alone when it could not be asked.
_PAUSE = 5.0


class Unified:
    """Asks Keystone, and remembers what it told."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._life = conf.quotas.cache_seconds
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[float, Mapping[str, int]]] = OrderedDict()
        self._away_until = float("-inf")
        _configure(conf)
        if not (conf.oslo_limit.auth_type or conf.oslo_limit.auth_section):
            raise exceptions.InputError(
                "[quotas] driver = unified needs an account that may read all limits, and the"
                " service's endpoint: set auth_type, auth_url, username, password, system_scope"
                " and endpoint_id (or endpoint_service_type) in the group [oslo_limit]."
            )

    def of(self, project_id: str) -> Mapping[str, int]:
        """Return a project's limits by resource; what is not registered is 0, as in all services.

        :raises qinling_exec.exceptions.Unavailable: Keystone can't be asked, and never was.
        """
        now = time.monotonic()
        with self._lock:
            asked, known = self._known.get(project_id, (float("-inf"), None))
            if known is not None and (now - asked < self._life or now < self._away_until):
                return known
            if now < self._away_until:
                raise _unavailable()
            if known is not None:  # the others go by what was known
                self._known[project_id] = now, known
        try:
            found = _ask(project_id)
        except Exception as error:
            LOG.warning("The limits of projects can't be asked for: %s", error)
            with self._lock:
                self._away_until = time.monotonic() + _PAUSE
            if known is None:
                raise _unavailable() from error
            return known
        with self._lock:
            self._known[project_id] = now, found
            self._known.move_to_end(project_id)
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return found


def _configure(conf: cfg.ConfigOpts) -> None:
    """Let the library, which knows only a global configuration, read the service's."""
    loading.register_session_conf_options(conf, _GROUP)
    loading.register_adapter_conf_options(conf, _GROUP, include_deprecated=False)
    loading.register_auth_conf_options(conf, _GROUP)
    opts.register_opts(conf)
    conf.set_default("timeout", _PATIENCE, _GROUP)
    limit.CONF = conf


def _ask(project_id: str) -> Mapping[str, int]:
    # An enforcer asks for everything once only, so each time has its own.
    enforcer = limit.Enforcer(lambda project, names: dict.fromkeys(names, 0))
    found = dict.fromkeys(RESOURCES, 0)
    everything: Any = None
    for told in (enforcer.get_registered_limits(everything),
                 enforcer.get_project_limits(project_id, everything)):
        found.update({name: int(most) for name, most in told if name in found})
    return found


def _unavailable() -> exceptions.Unavailable:
    return exceptions.Unavailable("The limits of the project can't be asked for: the identity"
                                  " service does not answer. Try again later.")

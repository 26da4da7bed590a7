# SPDX-License-Identifier: Apache-2.0
"""Who the caller is: from Keystone, or from headers that are believed."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from typing import Any

from oslo_config import cfg

from qinling_exec import exceptions
from qinling_exec.context import RequestContext

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
_OPEN = {"/", "", "/v1", "/v1/", "/v1/openapi.json"}


def authenticated(application: Application, conf: cfg.ConfigOpts) -> Application:
    """Put the configured way to identify callers in front of an application."""
    inner = _Context(application)
    if conf.auth_strategy == "noauth":
        return _NoAuth(inner, everywhere=conf.api.insecure_noauth_everywhere)
    # Imported here: it costs a third of the start, and the embedded service has no Keystone.
    from keystonemiddleware import auth_token

    guarded = auth_token.AuthProtocol(inner, {"oslo_config_config": conf})
    return _Open(inner, guarded)


class _Context:
    """Leaves the request's context for the controllers."""

    def __init__(self, application: Application) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        environ["qinling_exec.context"] = RequestContext.from_environ(
            environ, request_id=environ.get("openstack.request_id")
        )
        return self._application(environ, start)


class _Open:
    """Lets everybody see what versions there are."""

    def __init__(self, application: Application, guarded: Application) -> None:
        self._application = application
        self._guarded = guarded

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("PATH_INFO", "") in _OPEN:
            return self._application(environ, start)
        return self._guarded(environ, start)


class _NoAuth:
    """Believes X-Project-Id and X-Roles; for callers of the same machine.

    :param everywhere: also for callers of other machines, who are administrators then.
    """

    def __init__(self, application: Application, everywhere: bool) -> None:
        self._application = application
        self._everywhere = everywhere

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if not self._everywhere and not _is_local(environ.get("REMOTE_ADDR", "")):
            raise exceptions.NotAllowed(
                "auth_strategy = noauth serves callers of its own machine only."
            )
        environ["HTTP_X_PROJECT_ID"] = environ.get("HTTP_X_PROJECT_ID") or "default"
        environ["HTTP_X_ROLES"] = environ.get("HTTP_X_ROLES") or "admin"
        if len(environ["HTTP_X_PROJECT_ID"]) > 80:
            raise exceptions.InputError("X-Project-Id may have 80 characters at the most.")
        return self._application(environ, start)


def _is_local(address: str) -> bool:
    """Tell whether a peer is of this machine; a Unix socket's has no address."""
    if not address:
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False

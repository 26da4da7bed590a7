# SPDX-License-Identifier: Apache-2.0
"""Who the caller is: from Keystone, or from headers that are believed."""

from __future__ import annotations

import importlib.util
import ipaddress
import logging
from collections.abc import Callable, Iterable
from typing import Any

from oslo_config import cfg

from qinling_exec import exceptions
from qinling_exec.api import tokens
from qinling_exec.context import RequestContext
from qinling_exec.policy import Policy

LOG = logging.getLogger(__name__)
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
#: What everybody may see: which versions there are, and whether the service is well.
OPEN = {"/", "", "/v1", "/v1/", "/v1/openapi.json"}
#: What Keystone's own bootstrap makes imply what; without Keystone nobody else expands it.
_IMPLIED = {"admin": ["manager"], "manager": ["member"], "member": ["reader"]}
#: How long Keystone may take to answer; auth_token itself would wait for ever.
_KEYSTONE_SECONDS = 10


def authenticated(application: Application, conf: cfg.ConfigOpts, rules: Policy) -> Application:
    """Put the configured way to identify callers in front of an application.

    :raises qinling_exec.exceptions.InputError: Keystone is wanted, but not configured.
    """
    inner = _Context(application, rules)
    if conf.auth_strategy == "noauth":
        return _NoAuth(inner, everywhere=conf.api.insecure_noauth_everywhere)
    return _Keystone(inner, conf)


class _Context:
    """Leaves the request's context for the controllers."""

    def __init__(self, application: Application, rules: Policy) -> None:
        self._application = application
        self._rules = rules

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        context = RequestContext.from_environ(
            environ, request_id=environ.get("openstack.request_id")
        )
        context.is_admin = self._rules.allows("context_is_admin", context, context.project_id)
        environ["qinling_exec.context"] = context
        return self._application(environ, start)


class _Keystone:
    """Lets Keystone check the token of every request that is not for an open path."""

    def __init__(self, application: Application, conf: cfg.ConfigOpts) -> None:
        # Imported here: it costs a third of the start, and the embedded service has no Keystone.
        from keystoneauth1 import exceptions as keystone
        from keystonemiddleware import auth_token, opts

        for group, options in opts.list_auth_token_opts():
            conf.register_opts(options, group)
        conf.set_default("http_connect_timeout", _KEYSTONE_SECONDS, "keystone_authtoken")
        conf.set_default("cache", tokens.NAME, "keystone_authtoken")
        own = conf.keystone_authtoken
        # Audit events say at which endpoint the caller came in, and the rules of an application
        # credential are for services that the catalogue has; nothing else reads it.
        conf.set_default("include_service_catalog", bool(conf.audit.map_file or own.service_type),
                         "keystone_authtoken")
        self._application = application
        self._broken = keystone.ClientException
        # Without memcached the process remembers; with one, what it says counts for all.
        self._cache = None if own.memcached_servers else tokens.Tokens()
        self._guarded = auth_token.AuthProtocol(application, {"oslo_config_config": conf})
        if own.memcached_servers and not (
                own.memcache_sasl_enabled or importlib.util.find_spec("memcache")):
            raise exceptions.InputError("[keystone_authtoken] memcached_servers needs"
                                        " python-memcached: install qinling-exec[memcached].")
        if own.service_type and not own.include_service_catalog:
            raise exceptions.InputError(
                "[keystone_authtoken] service_type needs include_service_catalog: without the"
                " catalogue the rules of application credentials can't be checked."
            )
        if not (own.auth_type or own.auth_section):
            raise exceptions.InputError(
                "auth_strategy = keystone needs the service's own account: set auth_type,"
                " auth_url, username, password, project_name and the domains in the group"
                " [keystone_authtoken]."
            )

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("PATH_INFO", "") in OPEN:
            _forget(environ)
            return self._application(environ, start)
        environ[tokens.NAME] = self._cache
        try:
            reply: Iterable[bytes] = self._guarded(environ, start)
        except self._broken as error:
            # auth_token answers 503 to most of it, but not to a catalogue without Keystone.
            LOG.critical("Tokens can't be checked: %s", error)
            raise exceptions.Unavailable(
                "The identity service can't be asked. Try again later."
            ) from error
        return reply


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
        environ["HTTP_X_ROLES"] = ",".join(_roles(environ.get("HTTP_X_ROLES") or "admin"))
        project = environ["HTTP_X_PROJECT_ID"]
        if len(project) > 80 or not project.isprintable():
            raise exceptions.InputError(
                "X-Project-Id may have 80 characters at the most, and printable ones only."
            )
        return self._application(environ, start)


def _roles(text: str) -> list[str]:
    """Return the roles that a caller names, with those that they imply.

    A caller with none that the rules know is a member: there is nobody to have given one.
    """
    roles = [role.strip() for role in text.split(",") if role.strip()]
    if not {role.lower() for role in roles} & {*_IMPLIED, "reader", "service"}:
        roles.append("member")
    for role in roles:  # it grows
        roles += [more for more in _IMPLIED.get(role.lower(), []) if more not in roles]
    return roles


def _forget(environ: dict[str, Any]) -> None:
    """Remove what a caller says of itself and nobody has checked."""
    for name in list(environ):
        if name.startswith(("HTTP_X_", "HTTP_OPENSTACK_")) and "FORWARDED" not in name:
            del environ[name]


def _is_local(address: str) -> bool:
    """Tell whether a peer is of this machine; a Unix socket's has no address."""
    if not address:
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False

# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a configuration: options that nobody reads, and some that contradict."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from oslo_config import cfg

from qinling_exec import exceptions

LOG = logging.getLogger(__name__)
#: Groups whose options are known only to who reads them, such as plug-ins of Keystone.
_FOREIGN = frozenset({"keystone_authtoken", "service_user", "oslo_limit", "cache",
                      "audit_middleware_notifications"})


def unknown(conf: cfg.ConfigOpts) -> list[str]:
    """Return the options in the config files that nothing reads, as ``[group] name``."""
    found: list[str] = []
    for path in conf.config_file or []:
        sections: dict[str, dict[str, list[str]]] = {}
        cfg.ConfigParser(path, sections).parse()
        for group, options in sections.items():
            if group in _FOREIGN:
                continue
            known = _known(conf, group)
            # The first word: who forgot the = may have written a secret behind it.
            found += [f"[{group}] {name.split()[0]}" for name in options if name not in known]
    return list(dict.fromkeys(found))


def _known(conf: cfg.ConfigOpts, group: str) -> set[str]:
    """Return the names that options of a group have, or once had."""
    if group == "DEFAULT":
        registered = conf._opts
    elif group in conf._groups:
        registered = conf._groups[group]._opts
    else:
        return set()
    names: set[str] = set()
    for entry in registered.values():
        option = entry["opt"]
        old = [one.name for one in option.deprecated_opts if one.name]
        for name in (option.name, option.dest, *old):
            names |= {name, name.replace("-", "_")}
    return names


def report(conf: cfg.ConfigOpts) -> None:
    """Log what nothing reads; at the start of a process.

    :raises qinling_exec.exceptions.InputError: options contradict each other.
    """
    check(conf)
    for name in unknown(conf):
        LOG.warning("Nothing reads the option %s: is it misspelt?", name)


def check(conf: cfg.ConfigOpts) -> None:
    """Stop a start with options that can't all be meant.

    :raises qinling_exec.exceptions.InputError: the text names them.
    """
    _read_all(conf)
    wrong = list(_contradictions(conf))
    if wrong:
        raise exceptions.InputError("The configuration contradicts itself: " + " ".join(wrong))


def _read_all(conf: cfg.ConfigOpts) -> None:
    """Read every option now: a value that is no number would else be met in the midst of work."""
    groups = [(None, conf._opts), *((name, group._opts) for name, group in conf._groups.items())]
    for group, options in groups:
        for name in options:
            try:
                _ = conf[group][name] if group else conf[name]
            except ValueError as error:
                reason = str(error).rpartition("is not valid: ")[2]
                raise exceptions.InputError(
                    f"The option [{group or 'DEFAULT'}] {name} has no valid value: {reason}."
                ) from error


def _contradictions(conf: cfg.ConfigOpts) -> Iterator[str]:
    limits = conf.limits
    for name in ("cpu", "memory", "timeout"):
        low, usual, high = (limits[f"{part}_{name}"] for part in ("min", "default", "max"))
        if not low <= usual <= high:
            yield (f"[limits] min_{name} = {low}, default_{name} = {usual} and max_{name} = {high}"
                   " must rise in this order.")
    if limits.package_size > limits.package_unpacked_size:
        yield "[limits] package_size is more than package_unpacked_size."
    if limits.queued_per_project > limits.queued:
        yield "[limits] queued_per_project is more than queued."
    if conf.api.default_page > conf.api.max_page:
        yield "[api] default_page is more than max_page."
    if conf.auth_strategy == "noauth" and conf.oslo_middleware.enable_proxy_headers_parsing:
        yield ("auth_strategy = noauth serves callers of its own machine, and with"
               " [oslo_middleware] enable_proxy_headers_parsing any caller could say to be one.")
    if conf.auth_strategy == "keystone" and conf.api.insecure_noauth_everywhere:
        yield "[api] insecure_noauth_everywhere needs auth_strategy = noauth."

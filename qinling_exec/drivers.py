# SPDX-License-Identifier: Apache-2.0
"""Drivers that the configuration chooses by name."""

from __future__ import annotations

from importlib import metadata
from typing import Any

from stevedore import driver
from stevedore.exception import NoMatches

from qinling_exec import exceptions


def load(namespace: str, name: str) -> Any:
    """Return what the entry point of a name stands for.

    :param namespace: ``qinling_exec.orchestrator``, for instance.
    :raises qinling_exec.exceptions.InputError: no such driver is installed; the text has those
        that are. Or it lacks a library.
    """
    known = sorted(set(metadata.entry_points(group=namespace).names))
    if name not in known:
        raise exceptions.InputError(
            f"The configuration names the driver {name} ({namespace}); installed are:"
            f" {', '.join(known) or 'none'}."
        )
    try:
        return driver.DriverManager(namespace, name).driver
    except (ImportError, NoMatches) as error:
        raise exceptions.InputError(
            f"The driver {name} ({namespace}) can't be loaded ({error}): is the extra that it"
            " needs installed?"
        ) from error

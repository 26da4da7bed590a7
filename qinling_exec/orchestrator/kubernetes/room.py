# SPDX-License-Identifier: Apache-2.0
"""Room for pods in the cluster: whether some will come without anybody's doing, or never."""

from __future__ import annotations

import re
from decimal import Decimal

from qinling_exec.orchestrator.kubernetes.watch import Watch


def comes(watch: Watch, name: str, in_vain: bool) -> bool | None:
    """Tell whether pods other than this one will give theirs back.

    :param in_vain: all that others have would be too little.
    :returns: None: that would be of no use.

    Those that are about to go do, and runs of images, which all end by their timeouts. A worker
    may stay for as long as its function is used.
    """
    if in_vain:
        return None
    return any(pod.leaving or (pod.run is not None and pod.run.accepted is not None)
               for pod in watch.all() if pod.name != name)


def never_comes(refusal: str) -> bool:
    """Tell whether a quota is too small for a pod even if there was no other.

    :param refusal: the cluster's words, such as "exceeded quota: few, requested: pods=1, used:
        pods=0, limited: pods=0".
    """
    requested, limited = _amounts(refusal, "requested"), _amounts(refusal, "limited")
    return any(amount > limited[name] for name, amount in requested.items() if name in limited)


def _amounts(refusal: str, what: str) -> dict[str, Decimal]:
    # Here: API processes load this too, and need not have the library.
    from kubernetes.utils import parse_quantity

    found = re.search(rf"{what}: (\S+)", refusal)
    pairs = [pair.partition("=") for pair in found[1].rstrip(",").split(",")] if found else []
    try:
        return {name: parse_quantity(amount)  # type: ignore[no-untyped-call]
                for name, _, amount in pairs}
    except ValueError:  # somebody else's words
        return {}

# SPDX-License-Identifier: Apache-2.0
"""What /specialize says about the function: ids, entry, limits."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from qinling_exec.runtime import package
from qinling_exec.runtime.messages import Refused

_MIB = 1 << 20
_DEFAULTS = {
    "processes": 128, "open_files": 1024, "file_size": 500 * _MIB, "log_size": _MIB,
    "result_size": 16 * _MIB, "scratch_size": 512 * _MIB,
}


@dataclass(frozen=True)
class Spec:
    """The function that a worker is for.

    memory_size: bytes that one run may use. limits: of one run. package: of the package.
    """

    function_id: str
    function_version: int
    entry: str
    sha256: str
    memory_size: int
    room: int
    limits: dict[str, int]
    package: package.Limits


def read(text: str, room: int) -> Spec:
    """Return the spec in the header of /specialize.

    :param room: for a spec that names none.
    :raises Refused: it is not valid.
    """
    try:
        given = json.loads(text)
        limits = given.get("limits") or {}
        spec = Spec(
            str(given["function_id"]), int(given["function_version"]), str(given["entry"]),
            str(given["sha256"]), int(given.get("memory_size") or 32 * _MIB),
            int(given.get("room") or room), _limits(limits, _DEFAULTS),
            package.Limits(**_limits(limits.get("package") or {}, vars(package.Limits()))),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused(400, f"X-Worker-Spec is not valid: {type(error).__name__} {error}."
                      ) from error
    if not spec.entry.rpartition(".")[0]:
        raise Refused(400, "X-Worker-Spec needs an entry such as main.main.")
    return spec


def _limits(given: dict[str, Any], defaults: dict[str, int]) -> dict[str, int]:
    """Return the limits that are known; a newer service may send others."""
    return {name: int(given.get(name, value)) for name, value in defaults.items()}

# SPDX-License-Identifier: Apache-2.0
"""Rules of /v1/functions/{id}/versions."""

from qinling_exec.policies.base import MANAGER, MEMBER, READER, operation

_ALL = "/v1/functions/{function_id}/versions"
_ONE = f"{_ALL}/{{version}}"

RULES = [
    operation("function_version:create", MEMBER, "Keep a function's package as a version.",
              f"POST {_ALL}"),
    operation("function_version:get", READER, "Show a version.", f"GET {_ONE}"),
    operation("function_version:download", READER, "Download a version's package.",
              f"GET {_ONE}?download=true", formerly="function_version:get"),
    operation("function_version:get_all", READER, "List a function's versions.", f"GET {_ALL}"),
    operation("function_version:delete", MEMBER, "Delete a version.", f"DELETE {_ONE}"),
    operation("function_version:scale_up", MANAGER, "Add workers to a version.",
              f"POST {_ONE}/scale_up"),
    operation("function_version:scale_down", MANAGER, "Take workers from a version.",
              f"POST {_ONE}/scale_down"),
    operation("function_version:detach", MANAGER, "End a version's workers.",
              f"POST {_ONE}/detach"),
]

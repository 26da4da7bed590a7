# SPDX-License-Identifier: Apache-2.0
"""Rules of /v1/functions."""

from qinling_exec.policies.base import ADMIN, MANAGER, MEMBER, READER, operation

_ALL, _ONE = "/v1/functions", "/v1/functions/{id}"

RULES = [
    operation("function:create", MEMBER, "Create a function.", f"POST {_ALL}"),
    operation("function:get", READER, "Show a function.", f"GET {_ONE}"),
    operation("function:download", READER, "Download a function's package.",
              f"GET {_ONE}?download=true", formerly="function:get"),
    operation("function:get_all", READER, "List the project's functions.", f"GET {_ALL}"),
    operation("function:get_all:all_projects", ADMIN, "List functions of other projects.",
              f"GET {_ALL}"),
    operation("function:update", MEMBER, "Change a function or its package.", f"PUT {_ONE}"),
    operation("function:delete", MEMBER, "Delete a function with its versions.",
              f"DELETE {_ONE}"),
    operation("function:scale_up", MANAGER, "Add workers to a function.",
              f"POST {_ONE}/scale_up"),
    operation("function:scale_down", MANAGER, "Take workers from a function.",
              f"POST {_ONE}/scale_down"),
    operation("function:detach", MANAGER, "End a function's workers.", f"POST {_ONE}/detach"),
    operation("function_worker:get_all", MANAGER, "List a function's workers.",
              f"GET {_ONE}/workers"),
]

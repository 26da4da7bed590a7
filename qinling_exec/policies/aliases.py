# SPDX-License-Identifier: Apache-2.0
"""Rules of /v1/aliases."""

from qinling_exec.policies.base import ADMIN, MEMBER, READER, operation

_ALL, _ONE = "/v1/aliases", "/v1/aliases/{name}"

RULES = [
    operation("function_alias:create", MEMBER, "Create an alias.", f"POST {_ALL}"),
    operation("function_alias:get", READER, "Show an alias.", f"GET {_ONE}"),
    operation("function_alias:get_all", READER, "List the project's aliases.", f"GET {_ALL}"),
    operation("function_alias:get_all:all_projects", ADMIN, "List aliases of other projects.",
              f"GET {_ALL}", formerly="function_version:get_all:all_projects"),
    operation("function_alias:update", MEMBER, "Point an alias elsewhere.", f"PUT {_ONE}"),
    operation("function_alias:delete", MEMBER, "Delete an alias.", f"DELETE {_ONE}"),
]

# SPDX-License-Identifier: Apache-2.0
"""Rules of /v1/runtimes."""

from qinling_exec.policies.base import ADMIN, READER, operation

_ALL, _ONE = "/v1/runtimes", "/v1/runtimes/{id}"

RULES = [
    operation("runtime:create", ADMIN, "Create a runtime.", f"POST {_ALL}"),
    operation("runtime:get", READER, "Show a runtime.", f"GET {_ONE}"),
    operation("runtime:get_all", READER, "List the runtimes that the project may use.",
              f"GET {_ALL}"),
    operation("runtime:update", ADMIN, "Change a runtime.", f"PUT {_ONE}"),
    operation("runtime:delete", ADMIN, "Delete a runtime.", f"DELETE {_ONE}"),
    operation("runtime_pool:get_all", ADMIN, "Show how many warm workers a runtime has.",
              f"GET {_ONE}/pool"),
]

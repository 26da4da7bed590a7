# SPDX-License-Identifier: Apache-2.0
"""Rules of /v1/executions."""

from qinling_exec.policies.base import ADMIN, MEMBER, READER, operation

_ALL, _ONE = "/v1/executions", "/v1/executions/{id}"

RULES = [
    operation("execution:create", MEMBER, "Run a function.", f"POST {_ALL}"),
    operation("execution:get", READER, "Show an execution.", f"GET {_ONE}"),
    operation("execution:get_log", READER, "Read what an execution has printed.",
              f"GET {_ONE}/log", formerly="execution:get"),
    operation("execution:get_all", READER, "List the project's executions.", f"GET {_ALL}"),
    operation("execution:get_all:all_projects", ADMIN, "List executions of other projects.",
              f"GET {_ALL}"),
    operation("execution:cancel", MEMBER, "Cancel an execution.", f"POST {_ONE}/cancel"),
    operation("execution:delete", MEMBER, "Delete an execution with its result and log.",
              f"DELETE {_ONE}"),
]

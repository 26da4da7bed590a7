# SPDX-License-Identifier: Apache-2.0
"""Who may do what: one rule for each operation, defaults in code."""

from __future__ import annotations

from oslo_policy import policy

_ANYONE = "project_id:%(project_id)s or role:admin"
_ADMIN = "role:admin"

#: name -> (who, what, [(verb, path)])
_OPERATIONS: dict[str, tuple[str, str, list[tuple[str, str]]]] = {}


def _declare(resource: str, path: str, **rules: tuple[str, str, str]) -> None:
    for action, (who, verb, what) in rules.items():
        suffix = {"get": "/{id}", "update": "/{id}", "delete": "/{id}"}.get(action, "")
        name = f"{resource}:{action.replace('__', ':')}"
        _OPERATIONS[name] = (who, what, [(verb, path + suffix)])


_declare(
    "execution", "/v1/executions",
    create=(_ANYONE, "POST", "Run a function."),
    get=(_ANYONE, "GET", "Show an execution or its log."),
    get_all=(_ANYONE, "GET", "List the project's executions."),
    get_all__all_projects=(_ADMIN, "GET", "List executions of other projects."),
    delete=(_ANYONE, "DELETE", "Delete an execution with its result and log."),
)
_declare(
    "function", "/v1/functions",
    create=(_ANYONE, "POST", "Create a function."),
    get=(_ANYONE, "GET", "Show a function or download its package."),
    get_all=(_ANYONE, "GET", "List the project's functions."),
    get_all__all_projects=(_ADMIN, "GET", "List functions of other projects."),
    update=(_ANYONE, "PUT", "Change a function or its package."),
    delete=(_ANYONE, "DELETE", "Delete a function with its versions."),
)
_declare("function", "/v1/functions/{id}/scale_up",
         scale_up=(_ADMIN, "POST", "Add workers to a function."))
_declare("function", "/v1/functions/{id}/scale_down",
         scale_down=(_ADMIN, "POST", "Take workers from a function."))
_declare("function", "/v1/functions/{id}/detach",
         detach=(_ADMIN, "POST", "End a function's workers."))
_declare("function_worker", "/v1/functions/{id}/workers",
         get_all=(_ADMIN, "GET", "List a function's workers."))
_declare(
    "function_version", "/v1/functions/{id}/versions",
    create=(_ANYONE, "POST", "Keep a function's package as a version."),
    get=(_ANYONE, "GET", "Show a version or download its package."),
    get_all=(_ANYONE, "GET", "List a function's versions."),
    delete=(_ANYONE, "DELETE", "Delete a version."),
)
_declare("function_version", "/v1/functions/{id}/versions/{version}/scale_up",
         scale_up=(_ADMIN, "POST", "Add workers to a version."))
_declare("function_version", "/v1/functions/{id}/versions/{version}/scale_down",
         scale_down=(_ADMIN, "POST", "Take workers from a version."))
_declare("function_version", "/v1/functions/{id}/versions/{version}/detach",
         detach=(_ADMIN, "POST", "End a version's workers."))
_declare(
    "function_alias", "/v1/aliases",
    create=(_ANYONE, "POST", "Create an alias."),
    get=(_ANYONE, "GET", "Show an alias."),
    get_all=(_ANYONE, "GET", "List the project's aliases."),
    get_all__all_projects=(_ADMIN, "GET", "List aliases of other projects."),
    update=(_ANYONE, "PUT", "Point an alias elsewhere."),
    delete=(_ANYONE, "DELETE", "Delete an alias."),
)
_declare(
    "runtime", "/v1/runtimes",
    create=(_ADMIN, "POST", "Create a runtime."),
    get=(_ANYONE, "GET", "Show a runtime."),
    get_all=(_ANYONE, "GET", "List the runtimes that the project may use."),
    update=(_ADMIN, "PUT", "Change a runtime."),
    delete=(_ADMIN, "DELETE", "Delete a runtime."),
)
_declare("runtime_pool", "/v1/runtimes/{id}/pool",
         get_all=(_ADMIN, "GET", "Show how many warm workers a runtime has."))


def list_rules() -> list[policy.DocumentedRuleDefault]:
    """Return every rule, for oslo.policy and its generators."""
    return [
        policy.DocumentedRuleDefault(
            name=name, check_str=who, description=what, scope_types=["project"],
            operations=[{"method": verb, "path": path} for verb, path in operations],
        )
        for name, (who, what, operations) in _OPERATIONS.items()
    ]

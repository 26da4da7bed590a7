# SPDX-License-Identifier: Apache-2.0
"""What the rules of the operations are made of: Keystone's roles, in the caller's project."""

from __future__ import annotations

from oslo_policy import policy

READER = "rule:project_reader"
MEMBER = "rule:project_member"
MANAGER = "rule:project_manager"
ADMIN = "rule:context_is_admin"

#: What Qinling asked of everything that it had no rule of its own for.
_QINLING = policy.DeprecatedRule(
    "default", "rule:admin_or_owner",
    deprecated_reason="In Qinling every role could read and write in its project",
    deprecated_since="0.1.0",
)

RULES = [
    policy.RuleDefault(
        "context_is_admin", "role:admin",
        "An administrator: reaches the objects of all projects.",
    ),
    policy.RuleDefault("owner", "project_id:%(project_id)s", "Somebody of the project."),
    policy.RuleDefault(
        "admin_or_owner", "rule:context_is_admin or rule:owner",
        "Anybody of the project, or an administrator; kept for policy files of Qinling.",
    ),
    policy.RuleDefault(
        "project_reader", "rule:context_is_admin or (role:reader and rule:owner)",
        "Who may read what the project has.", deprecated_rule=_QINLING,
    ),
    policy.RuleDefault(
        "project_member", "rule:context_is_admin or (role:member and rule:owner)",
        "Who may change what the project has, and run it.", deprecated_rule=_QINLING,
    ),
    policy.RuleDefault(
        "project_manager", "rule:context_is_admin or (role:manager and rule:owner)",
        "Who may decide how many workers the project's functions have.",
    ),
]


def operation(name: str, who: str, what: str, *requests: str,
              formerly: str | None = None) -> policy.DocumentedRuleDefault:
    """Return the rule of one operation of the API.

    :param requests: what it guards, as in ``GET /v1/executions``.
    :param formerly: the rule that guarded it in Qinling, when the name was another one.
    """
    old = None
    if formerly is not None:
        old = policy.DeprecatedRule(
            formerly, who, deprecated_since="0.1.0",
            deprecated_reason="In Qinling one rule guarded several operations",
        )
    return policy.DocumentedRuleDefault(
        name=name, check_str=who, description=what, scope_types=["project"],
        operations=[{"method": method, "path": path}
                    for method, path in (request.split() for request in requests)],
        deprecated_rule=old,
    )

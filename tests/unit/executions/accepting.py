# SPDX-License-Identifier: Apache-2.0
"""Accepting executions of a function that is in no catalogue."""

from qinling_exec.executions.acceptance import Acceptance, Plan
from qinling_exec.executions.idempotency import Keys
from qinling_exec.executions.quotas import Quotas
from qinling_exec.executions.targets import Target
from qinling_exec.quota.limits import QUEUED, RUNNING

TARGET = Target(**{**dict.fromkeys(Target.__dataclass_fields__), "function_id": "f",
                   "version": 0})


class NoLimits:
    def of(self, project_id):
        return {QUEUED: -1, RUNNING: -1}


class Accepting(Acceptance):
    """Stores what it is asked for; no worker is warm for it."""

    def __init__(self, database):
        super().__init__(database, Keys(database, 60), Quotas(database, NoLimits(), 10),
                         runs_images=False)

    def plan(self, context, request):
        return Plan(TARGET, [])

# SPDX-License-Identifier: Apache-2.0
"""Pecan's signatures are remembered, and the same as without that."""

import ast
import inspect
import pathlib

import pecan.core
import pecan.rest
import pecan.routing
import pytest
from oslo_policy import _checks
from pecan import util

from qinling_exec.api import argspecs
from qinling_exec.api.executions import ExecutionsController
from qinling_exec.api.functions import FunctionsController
from qinling_exec.api.versions import VersionsController


@pytest.fixture
def installed(monkeypatch):
    for module in (pecan.core, pecan.rest, pecan.routing, util):
        monkeypatch.setattr(module, "getargspec", argspecs._original)
    argspecs.install()


def controllers():
    for kind in (ExecutionsController, FunctionsController, VersionsController):
        for name in ("post", "get", "get_all", "put", "delete", "scale_up", "detach"):
            if hasattr(kind, name):
                yield getattr(kind, name)


@pytest.mark.parametrize("method", list(controllers()), ids=lambda method: method.__qualname__)
def test_a_remembered_signature_is_the_true_one(installed, method):
    assert pecan.core.getargspec(method) == argspecs._original(method)


def test_a_check_of_policy_has_its_true_signature(installed):
    for kind in (_checks.RoleCheck, _checks.RuleCheck, _checks.OrCheck, _checks.TrueCheck):
        method = kind.__call__
        assert _checks.inspect.getfullargspec(method) == inspect.getfullargspec(method)


def test_oslo_policy_uses_nothing_else_of_inspect():
    tree = ast.parse(pathlib.Path(_checks.__file__).read_text())
    used = {node.attr for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "inspect"}
    assert used == {"getfullargspec"}


def test_a_signature_is_worked_out_once(installed, monkeypatch):
    seen = []

    def counted(method):
        seen.append(method)
        return original(method)

    original = argspecs._original
    monkeypatch.setattr(argspecs, "_original", counted)

    def fresh(self, one):
        """Stand for a controller's method."""

    for _ in range(7):
        pecan.core.getargspec(fresh)
    assert seen == [fresh]

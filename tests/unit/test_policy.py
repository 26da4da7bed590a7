# SPDX-License-Identifier: Apache-2.0
"""Rules, and the operator's files that say something else."""

import os
import warnings

import pytest

from qinling_exec import exceptions, policy
from qinling_exec.context import RequestContext


@pytest.fixture
def file(conf, tmp_path, monkeypatch):
    monkeypatch.setattr(policy, "_LOOK_SECONDS", 0)
    path = tmp_path / "policy.yaml"
    conf.set_override("policy_file", str(path), "oslo_policy")
    return path


def allowed(rules, rule, *roles):
    context = RequestContext(project_id="mine", roles=list(roles), overwrite=False)
    try:
        policy.check(rules, context, rule)
    except exceptions.NotAllowed:
        return False
    return True


def write(path, text):
    """As an editor does: another file takes the place of the old one."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    os.replace(fresh, path)


def test_a_file_may_come_change_and_go(conf, file):
    rules = policy.build(conf)
    assert not allowed(rules, "runtime:create", "operator")
    write(file, '"runtime:create": "role:operator"\n')
    assert allowed(rules, "runtime:create", "operator")
    assert not allowed(rules, "runtime:create", "admin")
    write(file, '"runtime:create": "role:admin"\n')
    assert not allowed(rules, "runtime:create", "operator")
    file.unlink()
    assert allowed(rules, "runtime:create", "admin")


def test_a_directory_counts_too(conf, file, tmp_path):
    (tmp_path / "policy.d").mkdir()
    conf.set_override("policy_dirs", [str(tmp_path / "policy.d")], "oslo_policy")
    rules = policy.build(conf)
    assert not allowed(rules, "execution:create", "reader")
    write(tmp_path / "policy.d" / "more.yaml", '"execution:create": "rule:project_reader"\n')
    assert allowed(rules, "execution:create", "reader")


BROKEN = ["[", '"runtime:create": "rule:nothing"\n', "- a\n- b\n", '"runtime:create": 5\n',
          '"a": "rule:b"\n"b": "rule:a"\n', "text\n"]


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_file_changes_nothing(conf, file, caplog, text):
    write(file, '"runtime:create": "role:operator"\n')
    rules = policy.build(conf)
    write(file, text)
    assert allowed(rules, "runtime:create", "operator")
    assert not allowed(rules, "runtime:create", "member")
    assert "The rules stay as they were" in caplog.text
    write(file, '"runtime:create": "role:member"\n')
    assert allowed(rules, "runtime:create", "member")


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_file_stops_the_start(conf, file, text):
    write(file, text)
    with pytest.raises(exceptions.InputError, match=r"policy can't be read .*policy\.yaml"):
        policy.build(conf)


def test_a_rule_that_can_not_be_understood_lets_nobody_through(conf, file):
    write(file, '"runtime:get": "role:reader or or"\n')
    rules = policy.build(conf)
    assert not allowed(rules, "runtime:get", "admin", "reader")


# etc/policy.json of Qinling 5.0.0, in part.
QINLING = """{
    "context_is_admin": "role:admin or is_admin:1",
    "owner" : "project_id:%(project_id)s",
    "admin_or_owner": "rule:context_is_admin or rule:owner",
    "default": "rule:admin_or_owner",
    "function:scale_up": "rule:context_is_admin",
    "webhook:get_all:all_projects": "rule:context_is_admin"
}
"""


def test_a_file_of_qinling(conf, file):
    write(file, QINLING)
    with pytest.warns(UserWarning, match='Policy "default"'):
        rules = policy.build(conf)
    assert not allowed(rules, "execution:create", "reader")
    assert allowed(rules, "execution:create", "member")
    assert not allowed(rules, "function:scale_up", "manager")
    assert allowed(rules, "function:scale_up", "admin")


@pytest.mark.parametrize(("old", "now"), [
    ("default", "execution:create"), ("execution:get", "execution:get_log"),
    ("function:get", "function:download"), ("function_version:get", "function_version:download"),
    ("function_version:get_all:all_projects", "function_alias:get_all:all_projects"),
])
def test_what_a_rule_of_qinling_guarded_it_guards_still(conf, file, old, now):
    write(file, f'"{old}": "role:special"\n')
    with pytest.warns(UserWarning, match=f'Policy "{old}"'):
        rules = policy.build(conf)
    assert allowed(rules, now, "special")
    assert not allowed(rules, now, "admin")


def test_the_defaults_of_qinling_can_be_had_back_for_a_while(conf, file):
    conf.set_override("enforce_new_defaults", False, "oslo_policy")
    rules = policy.build(conf)
    assert allowed(rules, "execution:create", "anything")
    assert not allowed(rules, "runtime:create", "anything")


def test_no_rule_warns_by_itself(conf):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        policy.build(conf)


def test_a_caller_without_a_project_may_do_nothing(conf):
    context = RequestContext(roles=["admin"], overwrite=False)
    with pytest.raises(exceptions.NotAllowed, match="token for a project"):
        policy.check(policy.build(conf), context, "execution:get_all")

# SPDX-License-Identifier: Apache-2.0
"""Who is let in, and as whom."""

import sys

import pytest
from keystonemiddleware import opts

from qinling_exec import exceptions, policy
from qinling_exec.api import identity


def ask(application, **environ):
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/v1/executions", "SERVER_NAME": "x",
               "SERVER_PORT": "1", "wsgi.url_scheme": "http", **environ}
    statuses = []
    list(application(environ, lambda status, headers, *rest: statuses.append(status)))
    return statuses, environ.get("qinling_exec.context")


def inner(environ, start):
    start("200 OK", [])
    return [b""]


def guard(conf):
    return identity.authenticated(inner, conf, policy.build(conf))


@pytest.fixture
def noauth(conf):
    conf.set_override("auth_strategy", "noauth")
    return conf


def test_without_headers_the_caller_is_administrator_of_default(noauth):
    _, context = ask(guard(noauth), REMOTE_ADDR="127.0.0.1")
    assert (context.project, context.sees_all) == ("default", True)


def test_headers_are_believed(noauth):
    _, context = ask(guard(noauth), REMOTE_ADDR="::1",
                     HTTP_X_PROJECT_ID="p", HTTP_X_ROLES="member,reader")
    assert (context.project, context.sees_all) == ("p", False)


@pytest.mark.parametrize("address", ["10.0.0.1", "192.168.1.1", "fe80::1", "nonsense"])
def test_callers_of_other_machines_are_refused(noauth, address):
    with pytest.raises(exceptions.NotAllowed):
        ask(guard(noauth), REMOTE_ADDR=address)


def test_callers_of_other_machines_can_be_let_in_on_purpose(noauth):
    noauth.set_override("insecure_noauth_everywhere", True, "api")
    statuses, _ = ask(guard(noauth), REMOTE_ADDR="10.0.0.1")
    assert statuses == ["200 OK"]


@pytest.mark.parametrize(("given", "roles"), [
    ("admin", {"admin", "manager", "member", "reader"}),
    ("manager", {"manager", "member", "reader"}),
    ("reader", {"reader"}),
    ("service", {"service"}),
    (" Reader , auditor", {"Reader", "auditor"}),
    ("_member_", {"_member_", "member", "reader"}),
])
def test_roles_imply_what_they_do_in_keystone(noauth, given, roles):
    _, context = ask(guard(noauth), HTTP_X_ROLES=given)
    assert set(context.roles) == roles


def test_who_is_an_administrator_is_for_policy_to_say(noauth, tmp_path):
    file = tmp_path / "policy.yaml"
    file.write_text('"context_is_admin": "role:chief"\n')
    noauth.set_override("policy_file", str(file), "oslo_policy")
    application = guard(noauth)
    seen = {role: ask(application, HTTP_X_ROLES=role)[1].sees_all for role in ("admin", "chief")}
    assert seen == {"admin": False, "chief": True}


def test_keystone_without_an_account_is_refused(conf):
    with pytest.raises(exceptions.InputError, match="keystone_authtoken"):
        guard(conf)


def test_memcached_without_its_library_is_refused(conf, monkeypatch):
    """Each request with a token was answered with 500."""
    monkeypatch.setitem(sys.modules, "memcache", None)  # as if it were not installed
    for group, options in opts.list_auth_token_opts():
        conf.register_opts(options, group)
    conf.set_override("memcached_servers", ["127.0.0.1:9"], "keystone_authtoken")
    with pytest.raises(exceptions.InputError, match=r"qinling-exec\[memcached\]"):
        guard(conf)

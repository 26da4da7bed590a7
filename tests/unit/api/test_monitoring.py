# SPDX-License-Identifier: Apache-2.0
"""/healthcheck and /metrics: what is told, and to whom."""

import pytest

from qinling_exec import exceptions
from qinling_exec.api.monitoring import Monitoring
from qinling_exec.health import Check
from tests.unit.api.wsgi import Target, call

WELL, ILL = Check("database", True, "It answers."), Check("lease", False, "details")


class Told:
    def __init__(self, *checks):
        self._checks = list(checks)

    def checks(self):
        return self._checks

    def text(self):
        return b"a_metric 1\n"


def ask(path, *checks, networks=("127.0.0.0/8", "::1/128", "10.1.0.0/16"), method="GET",
        **environ):
    inner = Target(reads=False, status="404 Not Found")
    application = Monitoring(inner, Told(*checks), Told(), networks)
    return call(application, method, path, **environ)


def test_health_for_everybody():
    reply = ask("/healthcheck", WELL, REMOTE_ADDR="192.0.2.1")
    assert (reply.code, reply.json) == (200, {"status": "ok"})
    reply = ask("/healthcheck", WELL, ILL, REMOTE_ADDR="192.0.2.1")
    assert (reply.code, reply.json) == (503, {"status": "failing"})


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "::1", "10.1.2.3"])
def test_details_and_metrics_for_operators(address):
    reply = ask("/healthcheck", WELL, ILL, REMOTE_ADDR=address)
    assert reply.json["checks"][1] == {"name": "lease", "healthy": False, "reason": "details"}
    reply = ask("/metrics", REMOTE_ADDR=address)
    assert (reply.code, reply.body) == (200, b"a_metric 1\n")
    assert reply.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("environ", [
    {"REMOTE_ADDR": "192.0.2.1"}, {"REMOTE_ADDR": ""}, {}, {"REMOTE_ADDR": "localhost"},
    {"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "192.0.2.1"},
    {"REMOTE_ADDR": "127.0.0.1", "HTTP_FORWARDED": "for=127.0.0.1"},
    {"REMOTE_ADDR": "127.0.0.1", "HTTP_X_REAL_IP": "127.0.0.1"},
    {"REMOTE_ADDR": "127.0.0.1", "HTTP_VIA": "1.1 proxy"},
])
def test_not_for_others(environ):
    assert ask("/metrics", **environ).code == 404
    assert ask("/healthcheck", WELL, **environ).json == {"status": "ok"}


def test_head_has_no_body():
    reply = ask("/healthcheck", WELL, method="HEAD")
    assert (reply.code, reply.body) == (200, b"")


@pytest.mark.parametrize(("method", "path"), [("POST", "/healthcheck"), ("GET", "/healthcheck/"),
                                              ("GET", "/v1/metrics")])
def test_everything_else_goes_on(method, path):
    assert ask(path, method=method, REMOTE_ADDR="127.0.0.1").code == 404


def test_a_network_that_is_none():
    with pytest.raises(exceptions.InputError, match="allowed_networks"):
        ask("/metrics", networks=["everybody"])

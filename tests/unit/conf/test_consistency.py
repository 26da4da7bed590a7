# SPDX-License-Identifier: Apache-2.0
"""Options that nobody reads are reported; those that contradict stop the start."""

import traceback

import pytest
from oslo_config import cfg

from qinling_exec import conf as configuration
from qinling_exec import exceptions
from qinling_exec.conf import consistency


@pytest.fixture
def load(tmp_path):
    def load(text):
        file = tmp_path / "service.conf"
        file.write_text(text)
        return configuration.load(files=[str(file)])

    return load


def test_nothing_is_wrong_with_the_defaults(load):
    conf = load("[database]\nconnection = sqlite:///x\n")
    consistency.check(conf)
    assert consistency.unknown(conf) == []


def test_misspelt_options(load, caplog):
    conf = load("[DEFAULT]\ndebgu = true\n[engine]\nlease_second = 3\nlease_seconds = 5\n"
                "[enigne]\nlease_seconds = 5\n")
    assert consistency.unknown(conf) == ["[DEFAULT] debgu", "[engine] lease_second",
                                         "[enigne] lease_seconds"]
    consistency.report(conf)
    assert "[engine] lease_second: is it misspelt" in caplog.text


def test_names_that_libraries_have_or_had(load):
    conf = load("[DEFAULT]\nuse-json = true\nuse_syslog = false\nverbose_x = 1\n"
                "[database]\nmax_pool_size = 3\n[oslo_policy]\nenforce_new_defaults = true\n"
                "[keystone_authtoken]\nauth_url = x\n[cors]\nallowed_origin = *\n")
    assert consistency.unknown(conf) == ["[DEFAULT] verbose_x"]


@pytest.mark.parametrize(("text", "said"), [
    ("[limits]\nmin_cpu = 500\n", "min_cpu = 500"),
    ("[limits]\ndefault_timeout = 900\n", "default_timeout = 900"),
    ("[limits]\npackage_size = 99999999999\n", "package_size"),
    ("[limits]\nqueued = 5\n", "queued_per_project"),
    ("[api]\nmax_page = 10\n", "default_page"),
    ("[DEFAULT]\nauth_strategy = noauth\n[oslo_middleware]\nenable_proxy_headers_parsing = true\n",
     "enable_proxy_headers_parsing"),
    ("[api]\ninsecure_noauth_everywhere = true\n", "insecure_noauth_everywhere"),
])
def test_contradictions(load, text, said):
    with pytest.raises(exceptions.InputError, match=said):
        consistency.check(load(text))


@pytest.mark.parametrize("line", ["password of-nobody", "[of-nobody"])
def test_a_line_that_can_not_be_read_is_named_by_its_number(load, line):
    """It was shown, and may have been a password."""
    with pytest.raises(cfg.ConfigFileParseError, match=r"service\.conf:2, ") as told:
        load(f"[database]\n{line}")
    assert "of-nobody" not in "".join(traceback.format_exception(told.value))


def test_of_an_option_without_an_equals_sign_the_first_word_is_reported(load):
    conf = load("[database]\nconnection postgresql://u:of=nobody@h/d\n")
    assert consistency.unknown(conf) == ["[database] connection"]

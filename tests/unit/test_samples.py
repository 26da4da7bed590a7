# SPDX-License-Identifier: Apache-2.0
"""The samples in etc/ name every option and every rule that there is."""

from __future__ import annotations

import pathlib
import re

from qinling_exec import conf, policies

SAMPLES = pathlib.Path(__file__).parents[2] / "etc/qinling_exec"


def sections() -> dict[str, str]:
    sample = (SAMPLES / "qinling_exec.conf.sample").read_text(encoding="utf-8")
    return dict(re.findall(r"^\[(\w+)\]\n(.*?)(?=^\[|\Z)", sample, re.DOTALL | re.MULTILINE))


def test_configuration_sample_is_up_to_date() -> None:
    found = sections()
    missing = [
        f"[{group or 'DEFAULT'}] {option.name}"
        for group, options in conf.list_opts()
        for option in options
        if not re.search(rf"^#{option.dest} =( |$)", found[group or "DEFAULT"], re.MULTILINE)
    ]
    assert missing == [], "write it anew with: tox -e genconfig"


def test_configuration_sample_tells_the_defaults_of_the_service() -> None:
    """Where they are not those of the library that an option comes from."""
    found, loaded = sections(), conf.load()
    assert f"\n#max_pool_size = {loaded.database.max_pool_size}\n" in found["database"]
    assert f"\n#max_overflow = {loaded.database.max_overflow}\n" in found["database"]
    assert f"\n#pool_timeout = {loaded.database.pool_timeout}\n" in found["database"]
    assert f"\n#allow_headers = {','.join(loaded.cors.allow_headers)}\n" in found["cors"]
    assert "pecan=CRITICAL" in loaded.default_log_levels
    assert ",pecan=CRITICAL," in found["DEFAULT"]


def test_policy_sample_is_up_to_date() -> None:
    sample = (SAMPLES / "policy.yaml.sample").read_text(encoding="utf-8")
    named = set(re.findall(r'^#?"([\w:]+)": ', sample, re.MULTILINE))
    rules = {rule.name for rule in policies.list_rules()}
    assert named == rules, "write it anew with: tox -e genpolicy"

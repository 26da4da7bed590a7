# SPDX-License-Identifier: Apache-2.0
"""The samples in etc/ name every option and every rule that there is."""

from __future__ import annotations

import pathlib
import re

from qinling_exec import conf, policies

SAMPLES = pathlib.Path(__file__).parents[2] / "etc/qinling_exec"


def test_configuration_sample_is_up_to_date() -> None:
    sample = (SAMPLES / "qinling_exec.conf.sample").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^\[(\w+)\]\n(.*?)(?=^\[|\Z)", sample, re.DOTALL | re.MULTILINE))
    missing = [
        f"[{group or 'DEFAULT'}] {option.name}"
        for group, options in conf.list_opts()
        for option in options
        if not re.search(rf"^#{option.dest} =( |$)", sections[group or "DEFAULT"], re.MULTILINE)
    ]
    assert missing == [], "write it anew with: tox -e genconfig"


def test_policy_sample_is_up_to_date() -> None:
    sample = (SAMPLES / "policy.yaml.sample").read_text(encoding="utf-8")
    named = set(re.findall(r'^#?"([\w:]+)": ', sample, re.MULTILINE))
    rules = {rule.name for rule in policies.list_rules()}
    assert named == rules, "write it anew with: tox -e genpolicy"

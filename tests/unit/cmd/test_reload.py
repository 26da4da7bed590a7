# SPDX-License-Identifier: Apache-2.0
"""SIGHUP: what is read again counts, whatever other threads do meanwhile."""

from __future__ import annotations

import sys

from qinling_exec.cmd import engine


def test_an_option_that_is_looked_at_while_it_is_read_again_changes(tmp_path, monkeypatch):
    """The old value stayed in one reload of four: the engine looks all the time."""
    file = tmp_path / "engine.conf"
    file.write_text("[engine]\nmax_age = 60\n")
    monkeypatch.setattr(sys, "argv", ["qinling-exec-engine", "--config-file", str(file)])
    conf = engine._load()
    read = conf._reload_config_files

    def looked_at_meanwhile() -> object:
        assert conf.engine.max_age == 60
        return read()

    monkeypatch.setattr(conf, "_reload_config_files", looked_at_meanwhile)
    file.write_text("[engine]\nmax_age = 1\n")
    engine._read_again(conf)
    assert conf.engine.max_age == 1

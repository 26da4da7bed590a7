# SPDX-License-Identifier: Apache-2.0
"""The file that tells a probe of an engine."""

from __future__ import annotations

import os
import pathlib
import threading
from types import SimpleNamespace

from qinling_exec.cmd.engine import EngineProcess
from tests.functional import processes


def test_it_is_touched_while_there_is_a_lease(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "ready"
    runner = SimpleNamespace(valid=False)
    engine = object.__new__(EngineProcess)
    engine._stopping = threading.Event()
    engine._service = SimpleNamespace(runner=runner)
    thread = threading.Thread(target=engine._show_ready, args=(file,))
    thread.start()
    try:
        assert not processes.wait_for(file.exists, 1.5)
        runner.valid = True
        assert processes.wait_for(file.exists, 10)
        os.utime(file, (1, 1))
        assert processes.wait_for(lambda: file.stat().st_mtime > 1, 10)
    finally:
        engine._stopping.set()
        thread.join()


def test_it_can_not_be_written(tmp_path: pathlib.Path) -> None:
    """That is logged, and the engine goes on."""
    engine = object.__new__(EngineProcess)
    engine._stopping = threading.Event()
    engine._service = SimpleNamespace(runner=SimpleNamespace(valid=True))
    threading.Timer(0.1, engine._stopping.set).start()
    engine._show_ready(tmp_path / "no folder" / "ready")

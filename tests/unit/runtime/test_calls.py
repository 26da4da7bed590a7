# SPDX-License-Identifier: Apache-2.0
"""How the function is called."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.runtime.worker import Worker

CONTEXT = {"os_session": None, "attempt": 1, "function_id": "f", "function_version": 0,
           "request_id": "req-1"}


def called(worker: Worker, source: str, given: Any, **spec: Any) -> dict[str, Any]:
    worker.specialize(source, **spec)
    return worker.run(given, execution_id="e")


@pytest.mark.parametrize("source, given, output", [
    ("def main(**kwargs): return sorted(kwargs)", {"a": 1}, ["a", "context"]),
    ("def main(a, context): return [a, context]", {"a": 1},
     [1, {**CONTEXT, "execution_id": "e"}]),
    ("def main(a): return a", {"a": [1]}, [1]),
    ("def main(a): return a", "text", "text"),
    ("def main(a): return a", [1, 2], [1, 2]),
    ("def main(a): return a", 0, 0),
    ("def main(): return 'none'", None, "none"),
    ("def main(context, /): return context", [5], [5]),
    ("main = lambda **kwargs: 1", {}, 1),
    ("class Main:\n    def __call__(self, a): return a\nmain = Main()", {"a": 2}, 2),
    ("import functools\ndef f(a, b): return a + b\nmain = functools.partial(f, 1)", {"b": 2}, 3),
    ("main = dict", {"a": 1}, {"a": 1}),
])
def test_input(fresh: Worker, source: str, given: Any, output: Any) -> None:
    answer = called(fresh, source, given)
    assert (answer["success"], answer["output"]) == (True, output)


def test_missing_argument_is_the_functions_failure(fresh: Worker) -> None:
    answer = called(fresh, "def main(name): pass", {})
    assert answer["output"].startswith("TypeError: main() missing 1 required")


def test_context_given_as_input_is_replaced(fresh: Worker) -> None:
    assert called(fresh, "def main(context): return context", {"context": 1})["output"] == {
        **CONTEXT, "execution_id": "e"}


def test_entry_in_a_package(fresh: Worker) -> None:
    fresh.specialize({"deep/__init__.py": "", "deep/er.py": "from . import data\ndef f():"
                      " return data.VALUE", "deep/data.py": "VALUE = 7"}, entry="deep.er.f")
    assert fresh.run()["output"] == 7


def test_entry_that_is_not_there(fresh: Worker) -> None:
    fresh.specialize("x = 1", entry="main.nothing")
    answer = fresh.run()
    assert (answer["success"], answer["output"], answer.log) == (
        False, "The package's entry is main.nothing, but its module main has no function"
        " nothing.", b"")


def test_module_that_is_not_there(fresh: Worker) -> None:
    fresh.specialize("x = 1", entry="other.main")
    assert fresh.run()["output"] == "ModuleNotFoundError: No module named 'other'"


@pytest.mark.parametrize("source, output", [
    ("print('importing')\nraise ValueError('at import')", "ValueError: at import"),
    ("import sys\nsys.exit(1)", "The function called sys.exit(1) instead of returning."),
    ("import os\nos._exit(1)", "The function ended its process with status 1 instead of"
     " returning."),
    ("def main(:", "SyntaxError: invalid syntax (main.py, line 1)"),
    ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
     "Function execution failed because of too much resource consumption"),
])
def test_module_that_fails_on_import_fails_each_run(fresh: Worker, source: str, output: str
                                                    ) -> None:
    fresh.specialize(source)
    for _ in range(2):
        answer = fresh.run()
        assert (answer["success"], answer["output"]) == (False, output)
        if "import" in output:
            assert answer.log.startswith(b"importing\nTraceback")


def test_package_is_imported_once_and_what_import_prints_is_no_log(fresh: Worker) -> None:
    fresh.specialize("import os\nprint('hello')\nhere = os.getpid()\ndef main(): return here")
    first, second = fresh.run(), fresh.run()
    assert first["output"] == second["output"]
    assert first.log == b""


def test_what_importing_takes_is_none_of_the_time_of_a_run(fresh: Worker) -> None:
    fresh.specialize("import time\ntime.sleep(1.5)\ndef main(): return 'done'")
    assert fresh.run(timeout=1)["output"] == "done"


def test_logging_set_up_on_import_reaches_the_log_of_the_run(fresh: Worker) -> None:
    fresh.specialize("import logging\nlogging.basicConfig(level=logging.INFO)\n"
                     "def main(): logging.info('hello')")
    assert fresh.run().log == b"INFO:root:hello\n"


def test_descriptor_opened_on_import_stays_open(fresh: Worker) -> None:
    fresh.specialize({"main.py": "import os\nfile = open(os.path.dirname(__file__) + '/data')\n"
                      "def main(): return file.read()", "data": "content"})
    first, _ = (fresh.run()["output"] for _ in range(2))
    assert first == "content"


def test_data_of_the_package_is_beside_it_and_read_only(fresh: Worker) -> None:
    fresh.specialize({"main.py": """
        import os, pathlib
        HERE = pathlib.Path(__file__).parent
        def main():
            try:
                (HERE / "main.py").write_text("evil")
            except OSError as error:
                return [(HERE / "data").read_text(), type(error).__name__]
        """, "data": "content"})
    content, error = fresh.run()["output"]
    assert content == "content"
    assert error in ("PermissionError", "OSError")

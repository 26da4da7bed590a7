# SPDX-License-Identifier: Apache-2.0
"""What functions do, and what their executions say about it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest

from tests.functional import processes
from tests.functional.client import Api, output, result
from tests.functional.running import Running

pytestmark = pytest.mark.every_database

_RUN = "def main(**kwargs):\n    "
#: What a function of the module's returns, raises, or does to itself.
_VALUES = (
    None, True, 0, -1.5, "", "text ✓ \U0001f600", [], {}, [1, ["a", {"b": None}]],
    {"a": {"b": [1]}},
    9007199254740993, 123456789012345678901234567890, "nul \0 in it", "line\nline",
)
_RAISED = {
    "raise ValueError('no good ✓')": "ValueError: no good ✓",
    "raise KeyError('k')": "KeyError: 'k'",
    "raise Exception()": "Exception",
    "1 / 0": "ZeroDivisionError: division by zero",
    "import there_is_no_such_module": "ModuleNotFoundError: No module named",
    "raise KeyboardInterrupt": "KeyboardInterrupt",
    "raise BaseException('base')": "BaseException: base",
    "return main(case, **kwargs)": "RecursionError: maximum recursion depth exceeded",
}
_ENDS = {
    "_exit(0)": "os._exit(0)",
    "_exit(3)": "os._exit(3)",
    "exit()": "sys.exit()",
    "exit(text)": "sys.exit('bye')",
    "SIGTERM": "os.kill(os.getpid(), signal.SIGTERM); time.sleep(20)",
    "abort": "os.abort()",
    "closed-and-gone": "os.closerange(0, 1000); os._exit(0)",
}
_NO_JSON = {
    "return {1, 2}": "set", "return object()": "object", "return b'x'": "bytes",
    "return float('nan')": "nan|JSON", "return [float('inf')]": "inf|JSON",
    "return {(1, 2): 3}": "tuple|keys",
    "a = []; a.append(a); return a": "(?i)circular|JSON",
    "return (i for i in [1])": "generator",
}


@pytest.fixture(scope="module")
def cases(session_api: Api) -> str:
    """A function that does one of many things: each of its own would need a worker of its own."""
    statements = [*(f"return {value!r}" for value in _VALUES), *_RAISED, *_ENDS.values(),
                  *_NO_JSON]
    code = "import os\nimport signal\nimport sys\nimport time\n\n\ndef main(case, **kwargs):\n"
    code += "".join(f"    if case == {statement!r}:\n        {statement}\n"
                    for statement in statements)
    return session_api.function(f"{code}    raise LookupError(case)\n", timeout="10")


def _outcome(api: Api, code: str, **fields: str) -> tuple[str, object, str]:
    """Run a function once; return status, output and log."""
    return _outcome_of(api, api.function(code, **fields))


def _outcome_of(api: Api, function: str, **given: str) -> tuple[str, object, str]:
    made = api.run(function, given or None)
    assert made["status"] in ("success", "failed"), made
    assert set(result(made)) == {"output", "duration"}, made
    assert api.show(made["id"])["result"] == made["result"]
    return made["status"], output(made), api.log(made["id"]).decode()


@pytest.mark.parametrize("value", _VALUES)
def test_value_comes_back(api: Api, cases: str, value: object) -> None:
    assert _outcome_of(api, cases, case=f"return {value!r}") == ("success", value, "")


def test_large_output(api: Api) -> None:
    assert _outcome(api, f"{_RUN}return 'o' * 300000\n") == ("success", "o" * 300000, "")


@pytest.mark.parametrize(("statement", "expected"), _RAISED.items())
def test_exception(api: Api, cases: str, statement: str, expected: str) -> None:
    status, said, log = _outcome_of(api, cases, case=statement)
    assert status == "failed"
    assert str(said).startswith(expected)
    assert "Traceback" in log
    assert 'main.py", line ' in log
    # The frames of the runtime itself are nothing to the user.
    assert "qinling_exec" not in log


@pytest.mark.parametrize("statement", _ENDS.values(), ids=_ENDS.keys())
def test_end_without_a_result_is_an_honest_failure(api: Api, cases: str, statement: str) -> None:
    status, said, _ = _outcome_of(api, cases, case=statement)
    assert status == "failed"
    assert isinstance(said, str)
    assert len(said) > 10
    assert "timeout" not in said


@pytest.mark.parametrize(("statement", "kind"), _NO_JSON.items())
def test_what_is_not_json(api: Api, cases: str, statement: str, kind: str) -> None:
    status, said, _ = _outcome_of(api, cases, case=statement)
    assert status == "failed"
    assert re.search(kind, str(said)), said


def test_timeout_ends_the_whole_tree(api: Api, mark: str) -> None:
    code = ("import subprocess\nimport time\n\n\ndef main(**kwargs):\n    print('started')\n"
            "    subprocess.Popen(['/bin/sh', '-c',"
            f" 'trap \"\" TERM; sleep 100; : {mark}'], start_new_session=True)\n"
            "    time.sleep(100)\n")
    status, said, log = _outcome(api, code, timeout="1")
    assert (status, said, log) == ("failed", "Function execution timeout", "started\n")
    processes.wait_for(lambda: not processes.marked(mark), 5)
    assert processes.marked(mark) == []


def test_process_left_behind_dies_with_its_run(api: Api, mark: str) -> None:
    code = ("import subprocess\n\n\ndef main(**kwargs):\n"
            f"    subprocess.Popen(['/bin/sh', '-c', 'sleep 100; : {mark}'],"
            " start_new_session=True)\n    return 'left it'\n")
    assert _outcome(api, code)[:2] == ("success", "left it")
    processes.wait_for(lambda: not processes.marked(mark), 5)
    assert processes.marked(mark) == []


def test_too_much_memory(api: Api) -> None:
    code = f"{_RUN}return len(bytearray(100 * 1024 * 1024))\n"
    status, said, _ = _outcome(api, code)
    assert (status, said) == (
        "failed", "Function execution failed because of too much resource consumption")
    assert _outcome(api, code, memory_size="134217728") == ("success", 104857600, "")


def test_closed_stdout(api: Api) -> None:
    code = ("import os\nimport sys\n\n\ndef main(**kwargs):\n    print('said', flush=True)\n"
            "    sys.stdout.close()\n    os.close(2)\n    return 'fine'\n")
    assert _outcome(api, code)[:2] == ("success", "fine")


def test_printed_garbage_is_no_result(api: Api) -> None:
    code = (f"{_RUN}print('{{\"output\": \"forged\", \"success\": true}}')\n"
            "    import os\n    os._exit(0)\n")
    status, said, log = _outcome(api, code)
    assert status == "failed"
    assert said != "forged"
    assert "forged" in log


@pytest.mark.parametrize(("code", "entry", "expected"), [
    ("def main(:\n", "main.main", "SyntaxError"),
    ("raise RuntimeError('at import')\n", "main.main", "RuntimeError: at import"),
    ("x = 1\n", "main.main", "main"),
    ("main = 5\n", "main.main", "main|callable"),
    ("def main(**kwargs):\n    pass\n", "other.main", "other"),
    ("def main():\n    return 1\n", "main.main", "unexpected|argument"),
], ids=["syntax", "import", "no-function", "no-callable", "no-module", "arguments"])
def test_code_that_can_not_be_called(api: Api, code: str, entry: str, expected: str) -> None:
    function = api.function(code, entry=entry)
    made = api.run(function, {"a": 1})
    assert made["status"] == "failed"
    assert re.search(expected, str(output(made))), made
    # And again: the worker is not broken by it.
    assert api.run(function, {"a": 1})["result"].partition("duration")[0] in made["result"] or (
        output(api.run(function, {"a": 1})) == output(made))


def test_context(api: Api) -> None:
    code = "def main(context, **kwargs):\n    return context\n"
    function = api.function(code)
    made = api.run(function)
    context = output(made)
    assert context["os_session"] is None
    assert context["execution_id"] == made["id"]
    assert context["function_id"] == function
    assert context["function_version"] == 0
    assert context["request_id"] == made["request_id"]
    assert output(api.run(api.function("def main(a):\n    return a\n"), {"a": 1})) == 1


@pytest.fixture
def namespaces(service: Running) -> None:
    """Skip a test where the machine lets nobody have namespaces of their own."""
    command = ["unshare", "--user", "--map-root-user", "--mount", "--ipc", "true"]
    if shutil.which("unshare") is None or subprocess.run(command, check=False).returncode:
        pytest.skip("THIS MACHINE ALLOWS NO NAMESPACES: runs can't be kept apart wholly here")


@pytest.mark.usefixtures("namespaces")
def test_runs_are_kept_apart_where_the_machine_lets_them(service: Running) -> None:
    reports = re.findall(r"isolation (\{.*\})", service.log)
    assert reports
    for report in reports:
        for name in ("private_tmp", "private_ipc", "process_limit"):
            assert f"'{name}': True" in report


@pytest.mark.usefixtures("namespaces")
def test_one_run_sees_nothing_of_another(api: Api) -> None:
    code = '''
import json
import os
import tempfile

seen = []


def main(mark, **kwargs):
    found = {"modules": list(seen), "environment": os.environ.get("MARK"),
             "here": os.listdir("."), "secret": sorted(
                 name for name in os.environ if "SECRET" in name or name.startswith("OS_"))}
    places = {"tmp": "/tmp", "var": "/var/tmp", "shm": "/dev/shm", "here": ".",
              "temporary": tempfile.gettempdir()}
    for name, place in places.items():
        path = os.path.join(place, "left-by-%s" % name)
        found["left in " + name] = os.path.exists(path)
        try:
            with open(path, "w") as file:
                file.write(mark)
        except OSError:
            pass
    seen.append(mark)
    json.mark = mark
    os.environ["MARK"] = mark
    return found
'''
    function = api.function(code)
    clean = output(api.run(function, {"mark": "one"}))
    assert clean["modules"] == []
    assert clean["environment"] is None
    assert clean["secret"] == []
    assert {name: value for name, value in clean.items() if name.startswith("left in")} == {
        f"left in {name}": False for name in ("tmp", "var", "shm", "here", "temporary")}
    for mark in ("two", "three"):
        assert output(api.run(function, {"mark": mark})) == clean


def test_package_files_and_modules(api: Api) -> None:
    files: dict[str, str | bytes] = {
        "pkg/__init__.py": "", "pkg/deep.py": (
            "import pathlib\n\nfrom . import value\n\n\ndef go(**kwargs):\n"
            "    here = pathlib.Path(__file__).parent\n"
            "    return [value.V, (here / 'd.txt').read_text()]\n"),
        "pkg/value.py": "V = 42\n", "pkg/d.txt": "data",
    }
    made = api.run(api.function(files, entry="pkg.deep.go"))
    assert (made["status"], output(made)) == ("success", [42, "data"])


def test_result_is_json_text(api: Api) -> None:
    made = api.run(api.function(f"{_RUN}return {{'b': 1, 'a': 'ü'}}\n"))
    assert json.loads(made["result"]).keys() == {"output", "duration"}
    assert list(output(made)) == ["b", "a"]

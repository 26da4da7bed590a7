# SPDX-License-Identifier: Apache-2.0
"""Makes what the recorded session had and the file does not show being made.

The file holds about half of the calls. Ids in the keys of ``replay.ids`` are those of the
recording; the fields are those that later replies show.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

from tests.functional import processes
from tests.functional.client import HELLO, make_zip
from tests.functional.compat.replay import Replay

PYTHON3 = "d375c592-3e7f-46ea-8c41-4b9f87f3dbe7"
FAILING = "5d8692fe-8d6c-4e69-9f1c-022c7b6715d8"
FULL = "1281a5d3-49eb-4679-b49d-4f3fa26b7ca2"
NAMELESS = "26e88a7e-7197-48fb-a795-f827ec60bc11"
MAIN = "8c3753cf-de91-4e6e-b945-31f1d84ebfac"
SECOND = "ff4f1dd8-b1f6-4ff6-b0d4-2e13865db7a8"
THIRD = "8356604f-e507-4c15-b445-81fd8d298f97"
IMAGE = "5cd87142-06d3-440e-9f1a-0a9b27ce83e3"

# Does what the stand-in worker of the recording did; a comment makes another package of it.
STEERED = '''# {mark}
import time


def main(name="World", **steering):
    context = steering.pop("context", {{}})
    time.sleep(steering.get("sleep", 0))
    if steering.get("logs_size"):
        print("l" * steering["logs_size"], end="")
    else:
        print("Start execution:", context["execution_id"])
        print("Finished execution:", context["execution_id"])
    if steering.get("fail"):
        raise RuntimeError("boom")
    if steering.get("nul"):
        print("nul \\0")
        return "nul \\0"
    if "output_size" in steering:
        return "o" * steering["output_size"]
    return steering.get("return", "Hello, %s" % name)
'''


def _runtime_is_there(replay: Replay, theirs: str) -> None:
    """Wait until a runtime is made: in the recording it was before the next call."""
    path = f"/v1/runtimes/{replay.ours(theirs)}"
    processes.wait_for(
        lambda: replay.api.ok("GET", path)["status"] in ("available", "error"), 20
    )


def _set_error(replay: Replay, theirs: str) -> None:
    """Put a runtime into its error state, which no image leads to here."""
    _runtime_is_there(replay, theirs)
    database = replay.service.data_dir / "qinling_exec.sqlite"
    with closing(sqlite3.connect(database, timeout=10)) as connection, connection:
        changed = connection.execute("UPDATE runtimes SET status = 'error' WHERE id = ?",
                                     (replay.ours(theirs),)).rowcount
    assert changed == 1


def _make_runtime(replay: Replay, theirs: str, **fields: Any) -> None:
    made = replay.api.ok("POST", "/v1/runtimes", 201, json=fields)
    replay.ids[theirs] = made["id"]
    _runtime_is_there(replay, theirs)


def _make_function(replay: Replay, theirs: str, runtime: str = PYTHON3, **fields: Any) -> None:
    replay.ids[theirs] = replay.api.function(HELLO, runtime_id=replay.ours(runtime), **fields)


def _package(replay: Replay, mark: str) -> None:
    """Give the session's main function a package that inputs steer."""
    replay.api.ok(
        "PUT", f"/v1/functions/{replay.ours(MAIN)}",
        data={"code": json.dumps({"source": "package"})},
        files={"package": ("f.zip", make_zip({"main.py": STEERED.format(mark=mark)}))},
    )


def _workers(replay: Replay, count: int, version: int = 0) -> None:
    """Wait until scaling is done: the recorded session did."""
    path = f"/v1/functions/{replay.ours(MAIN)}/workers"
    query = {"function_version": version} if version else {}
    processes.wait_for(
        lambda: len(replay.api.ok("GET", path, params=query)["workers"]) == count, 20
    )


def _run(replay: Replay, theirs: str | None = None, **body: Any) -> dict[str, Any]:
    made: dict[str, Any] = replay.api.ok("POST", "/v1/executions", 201, json=body)
    if theirs:
        replay.ids[theirs] = made["id"]
    return made


def before_runtimes(replay: Replay) -> None:
    """Make the runtimes between the first and the failing one."""
    _make_runtime(replay, FULL, name="full", image="img", description="d", is_public=False,
                  trusted=False)
    _make_runtime(replay, NAMELESS, image="img")


def before_same_id(replay: Replay) -> None:
    """Make a runtime with an id of the client's own."""
    _make_runtime(replay, "11111111-1111-4111-8111-111111111111", image="i",
                  id="11111111-1111-4111-8111-111111111111")


def before_list(replay: Replay) -> None:
    """Let the last runtime that was made become available."""
    processes.wait_for(lambda: all(
        item["status"] != "creating" for item in replay.api.ok("GET", "/v1/runtimes")["runtimes"]
    ), 20)


def before_rename(replay: Replay) -> None:
    """Name a runtime."""
    replay.api.ok("PUT", f"/v1/runtimes/{replay.ours(NAMELESS)}", json={"name": "new"})


def before_upgraded(replay: Replay) -> None:
    """Give a runtime another image."""
    replay.api.ok("PUT", f"/v1/runtimes/{replay.ours(NAMELESS)}", json={"image": "img2"})
    processes.wait_for(lambda: replay.api.ok(
        "GET", f"/v1/runtimes/{replay.ours(NAMELESS)}")["status"] != "upgrading", 20)


def before_image_function(replay: Replay) -> None:
    """Make a function of an image."""
    code = json.dumps({"source": "image", "image": "user/img"})
    made = replay.api.ok("POST", "/v1/functions", 201, json={"name": "hello", "code": code})
    replay.ids[IMAGE] = made["id"]


def before_resources(replay: Replay) -> None:
    """Change a function's resources."""
    replay.api.ok("PUT", f"/v1/functions/{replay.ours(SECOND)}",
                  json={"cpu": 150, "memory_size": 67108864})


def before_workers(replay: Replay) -> None:
    """Run the main function for the first time."""
    _run(replay, function_id=replay.ours(MAIN))


def before_version_one(replay: Replay) -> None:
    """Make the package one that inputs steer; versions 1 and 2 keep it too."""
    _package(replay, "one")


def before_aliases(replay: Replay) -> None:
    """Make the aliases that the list shows; a negative version is refused now."""
    assert replay.api.refused(
        "POST", "/v1/aliases", 400,
        json={"name": "neg", "function_id": replay.ours(SECOND), "function_version": -3},
    )
    for name, version, theirs in (
        ("zero", 0, "4086d905-c68b-4707-b713-ca618ccb4f1b"),
        ("ålias/✓ x", 4, "14ca349c-99f9-4c54-ad4f-150133a9b526"),
    ):
        made = replay.api.ok("POST", "/v1/aliases", 201, json={
            "name": name, "function_id": replay.ours(THIRD), "function_version": version,
        })
        replay.ids[theirs] = made["id"]


def before_described(replay: Replay) -> None:
    """Describe an alias."""
    replay.api.ok("PUT", "/v1/aliases/live", json={"description": "D"})


def before_async(replay: Replay) -> None:
    """Run the main function asynchronously, to the end."""
    made = _run(replay, "add880da-9e50-4ded-a9c0-625ce0fc45d2",
                function_id=replay.ours(MAIN), sync=False)
    replay.api.ended(made["id"])


def before_runtime_function(replay: Replay) -> None:
    """Make a runtime with a function that was never run."""
    _make_runtime(replay, "5e0d0ca8-c61c-4a4b-b90c-99fe83e049c3", image="i")
    _make_function(replay, "fb1ab6e1-a8bf-42ac-b5aa-bdc3bc5320e8",
                   "5e0d0ca8-c61c-4a4b-b90c-99fe83e049c3", name="hello")


def before_running_log(replay: Replay) -> None:
    """Have an execution going on."""
    _run(replay, "c8af8c8c-4045-4774-a9eb-ea26cf5d075c", function_id=replay.ours(MAIN),
         sync=False, input=json.dumps({"sleep": 4}))


def before_deleted(replay: Replay) -> None:
    """Delete an execution that is going on."""
    made = _run(replay, "15d750c1-7c81-4a64-903b-1f1a524a1945", function_id=replay.ours(MAIN),
                sync=False, input=json.dumps({"sleep": 4}))
    replay.api.ok("DELETE", f"/v1/executions/{made['id']}", 204)


def before_filters(replay: Replay) -> None:
    """Make the executions that the filters look for."""
    for fail in (False, False, True):
        _run(replay, function_id=replay.ours(MAIN), description="golden-filter",
             input=json.dumps({"fail": fail}))


def before_put(replay: Replay) -> None:
    """Run through an alias."""
    _run(replay, "cd5fe200-c692-4d07-a991-19262d4601a4", function_alias="live")


def before_last(replay: Replay) -> None:
    """Delete the first version; the second one is deleted by the recorded calls."""
    replay.api.ok("DELETE", f"/v1/functions/{replay.ours(MAIN)}/versions/1", 204)


PREPARE: dict[str, Callable[[Replay], None]] = {
    "runtime.show": lambda replay: _runtime_is_there(replay, PYTHON3),
    "runtime.create.failing": before_runtimes,
    "runtime.show.error": lambda replay: _set_error(replay, FAILING),
    "runtime.create.withid.again": before_same_id,
    "runtime.list": before_list,
    "runtime.update.desc": before_rename,
    "runtime.show.upgraded": before_upgraded,
    "function.show.image": before_image_function,
    "function.update.json": lambda replay: _make_function(
        replay, SECOND, name="hello", description="dd"),
    "function.update.empty": before_resources,
    "function.update.code.codeonly": lambda replay: _make_function(
        replay, THIRD, name="hello", description="beschréibung ✓", cpu="200",
        memory_size="67108864", timeout="60"),
    "function.workers": before_workers,
    "function.workers.scaledup": lambda replay: _workers(replay, 3),
    "function.workers.scaleddown": lambda replay: _workers(replay, 2),
    "function.workers.one": lambda replay: _workers(replay, 1),
    "function.workers.detached": lambda replay: _workers(replay, 0),
    "function.delete": lambda replay: _make_function(
        replay, "430ec384-aa15-4bca-8e5b-41957cce0ce1"),
    "version.create": before_version_one,
    "version.create.description": lambda replay: _package(replay, "two"),
    "version.workers": lambda replay: _workers(replay, 2, version=1),
    "alias.list": before_aliases,
    "alias.update.back": before_described,
    "execution.show.async.done": before_async,
    "runtime.update.image.withfunction": before_runtime_function,
    "execution.create.runtime.notavailable": lambda replay: _set_error(
        replay, "5e0d0ca8-c61c-4a4b-b90c-99fe83e049c3"),
    "execution.log.running.any": before_running_log,
    "execution.show.deleted.running": before_deleted,
    "execution.list.function_id.other": before_filters,
    "execution.put": before_put,
    "function.show.noversions": before_last,
}

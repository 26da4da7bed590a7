# SPDX-License-Identifier: Apache-2.0
"""Packages through the real server: hostile and broken uploads are refused and leave nothing."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.functional import processes
from tests.functional.client import HELLO, Api, make_zip
from tests.functional.running import Running
from tests.unit.runtime.zips import Entry, build

MAIN = Entry(b"main.py", HELLO.encode())
SIZE = 51 * 1024 * 1024


def stored(service: Running) -> list[str]:
    """Return all files of the package store."""
    return sorted(str(path) for path in (service.data_dir / "packages").rglob("*")
                  if path.is_file())


@pytest.fixture
def nothing_stays(service: Running) -> Iterator[None]:
    before = stored(service)
    yield
    processes.wait_for(lambda: stored(service) == before, 10)
    assert stored(service) == before


def form(api: Api, package: Any, **fields: str) -> dict[str, Any]:
    values = {"name": "f", "code": '{"source": "package"}', "runtime_id": api.runtime(), **fields}
    return {"data": values, "files": {"package": ("f.zip", package)}}


@pytest.mark.parametrize("package", [
    b"", b"not a zip", build(MAIN)[:-1], build(MAIN, Entry(b"../x", b"x")),
    build(MAIN, Entry(b"/x", b"x")), build(MAIN, Entry(b"x", b"/etc/passwd", mode=0o120777)),
    build(MAIN, Entry(b"x", b"x", flags=1)), build(MAIN, MAIN), build(MAIN, Entry(b"x", crc=1)),
    build(MAIN, Entry(b"zeros", b"\0" * 20_000_000)), build(),
    build(*(Entry(b"f%d" % number) for number in range(10_001))),
], ids=range(12))
@pytest.mark.usefixtures("nothing_stays")
def test_hostile_packages(api: Api, package: bytes) -> None:
    text = api.refused("POST", "/v1/functions", 400, **form(api, package))
    assert "ackage" in text or "entry" in text


@pytest.mark.usefixtures("nothing_stays")
def test_hostile_package_of_a_change(api: Api, service: Running) -> None:
    function = api.function()
    kept = stored(service)
    for package in (b"xx", build(MAIN, Entry(b"../x", b"x"))):
        api.refused("PUT", f"/v1/functions/{function}", 400,
                    files={"package": ("f.zip", package)})
    assert stored(service) == kept
    assert api.run(function)["status"] == "success"
    api.ok("DELETE", f"/v1/functions/{function}", 204)


@pytest.mark.usefixtures("nothing_stays")
def test_package_over_its_limit(api: Api) -> None:
    text = api.refused("POST", "/v1/functions", 413, **form(api, os.urandom(SIZE + 1)))
    assert str(SIZE) in text


@pytest.mark.usefixtures("nothing_stays")
def test_upload_that_says_that_it_is_huge(service: Running) -> None:
    """It is refused from its head alone, however much the client would send."""
    for method, path, kind in [
        (b"POST", b"/v1/functions", b"multipart/form-data; boundary=x"),
        (b"POST", b"/v1/executions", b"application/json"), (b"GET", b"/", b"text/plain"),
        (b"OPTIONS", b"/v1/x", b"text/plain"),
    ]:
        with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
            connection.sendall(b"%s %s HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\n"
                               b"Content-Length: 99999999999\r\n\r\n" % (method, path, kind))
            answer = b""
            while part := connection.recv(65536):
                answer += part
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 413 ")
        assert json.loads(body)["faultstring"]


@pytest.mark.usefixtures("nothing_stays")
def test_upload_that_stops_half_way(service: Running, api: Api) -> None:
    request = requests.Request("POST", f"{service.url}/v1/functions",
                               **form(api, os.urandom(5_000_000))).prepare()
    assert isinstance(request.body, bytes)
    kind = request.headers["Content-Type"].encode()
    for head in (b"Content-Length: %d" % len(request.body), b"Transfer-Encoding: chunked"):
        with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
            connection.sendall(b"POST /v1/functions HTTP/1.1\r\nHost: x\r\nContent-Type: " + kind
                               + b"\r\n" + head + b"\r\n\r\n")
            if b"chunked" in head:
                connection.sendall(b"%x\r\n" % len(request.body))
            connection.sendall(request.body[:2_000_000])
            processes.wait_for(lambda: any("/tmp/" in path for path in stored(service)), 10)


@pytest.mark.usefixtures("nothing_stays")
def test_chunked_upload(api: Api) -> None:
    request = requests.Request("POST", f"{api.url}/v1/functions",
                               **form(api, make_zip({"main.py": HELLO}))).prepare()
    body = request.body
    assert isinstance(body, bytes)
    made = api.ok("POST", "/v1/functions", 201, data=iter([body[:100], body[100:]]),
                  headers={"Content-Type": request.headers["Content-Type"]})
    assert api.run(made["id"], {"name": "you"})["status"] == "success"
    api.ok("DELETE", f"/v1/functions/{made['id']}", 204)


def test_connection_after_an_error(api: Api) -> None:
    """What the refused body has left does not become the next request."""
    for _ in range(3):
        api.refused("POST", "/v1/executions", 415, data=b"GET / HTTP/1.1\r\n\r\n" * 1000,
                    headers={"Content-Type": "text/plain"})
        assert api.ok("GET", "/v1/runtimes")["runtimes"]


def test_full_disk(start_service: Any, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk],
                             capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
    try:
        service = start_service(settings=f"[packages]\ndirectory = {disk}/packages\n")
        api = service.api()
        reply = api.session.post(f"{api.url}/v1/functions",
                                 **form(api, make_zip({"big": os.urandom(3_000_000)})))
        assert reply.status_code == 507, reply.text
        assert "storage" in reply.json()["faultstring"]
        assert api.ok("GET", "/v1/functions") == {"functions": []}
        assert [path for path in disk.rglob("*") if path.is_file()] == []
        assert api.run(api.function())["status"] == "success"
        api.close()
        assert service.stop() == 0
    finally:
        subprocess.run(["umount", disk], check=True)

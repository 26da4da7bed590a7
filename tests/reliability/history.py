# SPDX-License-Identifier: Apache-2.0
"""A client that writes down everything it asked for and was told."""

from __future__ import annotations

import itertools
import json
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import requests

from tests.functional import processes
from tests.functional.client import LEAKS, Api

RUNNING = "running"
ENDED = frozenset({"success", "failed", "error", "cancelled"})


@dataclass
class Creation:
    """One execution that was asked for.

    tag: the description that it was given; finds it when no answer came.
    id: as it was answered; None: refused, or no answer.
    refused: status of the refusal.
    unknown: an answer was lost, so that the execution may be there or not.
    """

    tag: str
    project: str
    body: dict[str, Any]
    key: str | None
    began: float
    id: str | None = None
    accepted: float | None = None
    refused: int | None = None
    unknown: bool = False
    tries: int = 0
    deleted: bool = False
    #: A DELETE was sent, and no answer came.
    perhaps_deleted: bool = False
    #: A cancel was answered with its success.
    cancelled: bool = False
    cancel_asked: bool = False
    #: Everything that was seen of the record, when it changed.
    seen: list[tuple[float, dict[str, Any]]] = field(default_factory=list)

    @property
    def given(self) -> dict[str, Any]:
        """What its function is given; a program has it as its last argument."""
        found = json.loads(self.body["input"])
        return dict(json.loads(found[-1]) if isinstance(found, list) else found)


class History:
    """A project's client, which may be used by several threads.

    :param urls: of the API processes; they take turns, as behind a load balancer.
    :param patience: seconds for which a request that got no answer, or a refusal that says
        when to come again, is repeated.
    """

    def __init__(self, urls: list[str], project: str = "default", *,
                 patience: float = 60) -> None:
        self.project = project
        self.patience = patience
        self.creations: list[Creation] = []
        #: What must never be, noticed on the way.
        self.violations: list[str] = []
        self._urls = itertools.cycle(urls)
        self._lock = threading.Lock()
        self._local = threading.local()
        self._sessions: list[requests.Session] = []

    def create(self, function_id: str, given: dict[str, Any] | list[str], *, sync: bool = False,
               key: bool | str = False, patience: float | None = None,
               timeout: float = 60) -> Creation:
        """Ask for an execution.

        :param key: send an Idempotency-Key (of one's own, or this one), and repeat the request
            until it is answered.
        """
        tag = uuid.uuid4().hex
        body = {"function_id": function_id, "input": json.dumps(given), "sync": sync,
                "description": tag}
        text = key if isinstance(key, str) else (tag if key else None)
        creation = Creation(tag, self.project, body, text, time.monotonic())
        with self._lock:
            self.creations.append(creation)
        until = time.monotonic() + (self.patience if patience is None else patience)
        while not self._try(creation, timeout):
            if time.monotonic() > until:
                break
        return creation

    def repeat(self, creation: Creation) -> requests.Response | None:
        """Send the same request once more, under its key."""
        assert creation.key is not None
        return self._send("POST", "/v1/executions", json=creation.body,
                          headers={"Idempotency-Key": creation.key})

    def show(self, creation: Creation) -> dict[str, Any] | None:
        """Look at an execution; None when it is not there or no answer came."""
        deleted = creation.deleted  # a reply may be on its way while another thread deletes it
        reply = self._send("GET", f"/v1/executions/{creation.id}")
        if reply is None or reply.status_code == 503:
            return None
        if reply.status_code == 404:
            if not (creation.deleted or creation.perhaps_deleted):
                self._violation(f"I1: accepted and not readable: {creation}")
            return None
        if deleted:
            self._violation(f"deleted with 204, and still shown: {reply.text[:300]}")
        self._saw(creation, reply.json())
        return dict(reply.json())

    def log(self, creation: Creation) -> bytes | None:
        """Return an execution's log, None when no answer came."""
        reply = self._send("GET", f"/v1/executions/{creation.id}/log",
                           headers={"Accept": "text/plain"})
        return reply.content if reply is not None and reply.status_code == 200 else None

    def cancel(self, creation: Creation) -> int | None:
        """Cancel an execution; return the status of the answer."""
        creation.cancel_asked = True
        reply = self._send("POST", f"/v1/executions/{creation.id}/cancel")
        if reply is None:
            return None
        if reply.status_code == 200:
            creation.cancelled = True
            self._saw(creation, reply.json())
            if reply.json()["status"] != "cancelled":
                self._violation(f"cancelled with 200, and it is not: {reply.text}")
        elif reply.status_code not in (202, 404, 409, 503):
            self._violation(f"cancel answered {reply.status_code}: {reply.text[:300]}")
        return reply.status_code

    def delete(self, creation: Creation) -> int | None:
        """Delete an execution, which cancels it first; return the status of the answer."""
        creation.perhaps_deleted = True
        creation.cancel_asked = True
        reply = self._send("DELETE", f"/v1/executions/{creation.id}")
        if reply is None:
            return None
        if reply.status_code == 204:
            creation.deleted = True
        elif reply.status_code not in (404, 503) and "is being cancelled" not in reply.text:
            self._violation(f"DELETE answered {reply.status_code}: {reply.text[:300]}")
        return reply.status_code

    def listed(self, **query: Any) -> list[dict[str, Any]] | None:
        """Return all pages of the list of the project's executions; None: no answer."""
        found: list[dict[str, Any]] = []
        path: str = "/v1/executions"
        params: dict[str, Any] = {"limit": 1000, **query}
        while True:
            reply = self._send("GET", path, params=params)
            if reply is None or reply.status_code != 200:
                return None
            page = reply.json()
            found += page["executions"]
            if not page.get("next"):
                return found
            path, params = "/v1/executions?" + page["next"].partition("?")[2], {}

    def settle(self, seconds: float) -> None:
        """Wait until every execution has ended; it is a violation if one does not.

        Those, too, whose answer was lost on its way: nobody here knows their ids.
        """
        if not processes.wait_for(lambda: self.listed(status=RUNNING) == [], seconds):
            stuck = [(row["id"], row["attempts"]) for row in self.listed(status=RUNNING) or []]
            self._violation(f"I3: not ended after {seconds} s: {stuck[:5]}, {len(stuck)} in all")

    def close(self) -> None:
        """Close the connections."""
        for session in self._sessions:
            session.close()

    @property
    def accepted(self) -> list[Creation]:
        """The executions that were answered with an id."""
        return [item for item in self.creations if item.id is not None]

    def _try(self, creation: Creation, timeout: float) -> bool:
        """Send a POST; tell whether it is done with."""
        creation.tries += 1
        headers = {} if creation.key is None else {"Idempotency-Key": creation.key}
        reply = self._send("POST", "/v1/executions", timeout, json=creation.body,
                           headers=headers)
        if reply is None:
            creation.unknown = True
            time.sleep(0.1)
            return creation.key is None  # without a key a repeat would be another execution
        if reply.status_code in (200, 201):
            creation.id = reply.json()["id"]
            creation.accepted = time.monotonic()
            creation.refused, creation.unknown = None, False
            self._saw(creation, reply.json())
            return True
        creation.refused = reply.status_code
        if reply.status_code not in (429, 503):
            if not (reply.status_code == 409 and creation.key):
                self._violation(f"POST answered {reply.status_code}: {reply.text[:300]}")
            return True
        time.sleep(min(1.0, float(reply.headers.get("Retry-After", 1))))
        return False

    def _send(self, method: str, path: str, timeout: float = 60,
              **options: Any) -> requests.Response | None:
        """Send a request; None when no whole answer came."""
        api: Api = self._api()
        headers = {**api.headers, **options.pop("headers", {})}
        with self._lock:
            url = next(self._urls)
        try:
            reply = api.session.request(method, url + path, headers=headers, timeout=timeout,
                                        allow_redirects=False, **options)
        except requests.RequestException:
            return None
        self._check(method, path, reply)
        return reply

    def _check(self, method: str, path: str, reply: requests.Response) -> None:
        where = f"{method} {path}: {reply.status_code} {reply.text[:300]}"
        if reply.status_code in (429, 503) and not reply.headers.get("Retry-After"):
            self._violation(f"no Retry-After: {where}")
        if reply.status_code >= 500 and reply.status_code != 503:
            self._violation(f"a fault of the service: {where}")
        if reply.status_code >= 400 and LEAKS.search(reply.text):
            self._violation(f"I10: the inside is shown: {where}")

    def _saw(self, creation: Creation, row: dict[str, Any]) -> None:
        with self._lock:
            if not creation.seen or creation.seen[-1][1] != row:
                creation.seen.append((time.monotonic(), row))

    def _violation(self, text: str) -> None:
        with self._lock:
            self.violations.append(text)

    def _api(self) -> Api:
        api: Api | None = getattr(self._local, "api", None)
        if api is None:
            api = self._local.api = Api("", project=self.project)
            with self._lock:
                self._sessions.append(api.session)
        return api

# SPDX-License-Identifier: Apache-2.0
"""Sends the recorded requests in their order to a service of now."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.functional.client import Api
from tests.functional.compat.recording import Exchange
from tests.functional.running import Running

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
RECORDED_URL = "http://127.0.0.1:17070"


@dataclass(frozen=True)
class Reply:
    """What came back now."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf8", "replace")

    @property
    def json(self) -> Any:
        """The body, which is JSON."""
        return json.loads(self.body)


class Replay:
    """The recorded session, held again with a service.

    :param prepare: exchange's name -> what to do before it, for the calls that the file lacks.
    :param skipped: names of exchanges that are not sent.
    """

    def __init__(self, service: Running, exchanges: list[Exchange],
                 prepare: Mapping[str, Callable[[Replay], None]],
                 skipped: Mapping[str, str]) -> None:
        self.service = service
        self.api: Api = service.api()
        self.ids: dict[str, str] = {}
        self._exchanges = exchanges
        self._prepare = prepare
        self._skipped = skipped
        self._replies: list[Reply | Exception | None] = []

    def reply(self, exchange: Exchange) -> Reply:
        """Return the reply to an exchange; those before it are sent first if need be."""
        index = self._exchanges.index(exchange)
        while len(self._replies) <= index:
            self._replies.append(self._play(self._exchanges[len(self._replies)]))
        reply = self._replies[index]
        if isinstance(reply, Exception):
            raise reply
        assert reply is not None
        return reply

    def ours(self, text: str) -> str:
        """Return a recorded text with the ids of now, in each spelling of an id."""
        text = text.replace(RECORDED_URL, self.service.url)
        for theirs, mine in self.ids.items():
            for spell in (str, str.upper, lambda value: value.replace("-", "")):
                text = text.replace(spell(theirs), spell(mine))
        return text

    def learn(self, theirs: Any, mine: Any) -> None:
        """Note which id of now stands for which recorded one."""
        if isinstance(theirs, dict) and isinstance(mine, dict):
            for name in theirs.keys() & mine.keys():
                self.learn(theirs[name], mine[name])
        elif isinstance(theirs, list) and isinstance(mine, list) and len(theirs) == len(mine):
            for one, other in zip(theirs, mine, strict=True):
                self.learn(one, other)
        elif (isinstance(theirs, str) and isinstance(mine, str)
              and UUID.fullmatch(theirs) and UUID.fullmatch(mine)):
            self.ids.setdefault(theirs, mine)

    def _play(self, exchange: Exchange) -> Reply | Exception | None:
        if exchange.name in self._skipped:
            return None
        try:
            if exchange.name in self._prepare:
                self._prepare[exchange.name](self)
            reply = self.send(exchange)
        except Exception as error:  # told when this exchange's own test runs
            return error
        if reply.status < 300 and exchange.status < 300 and exchange.json is not None:
            with contextlib.suppress(ValueError):  # not JSON now: its own test tells
                self.learn(exchange.json, reply.json)
        return reply

    def send(self, exchange: Exchange) -> Reply:
        """Send a recorded request as it was, but for the ids."""
        connection = http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=60)
        try:
            connection.putrequest(exchange.method, self.ours(exchange.path),
                                  skip_accept_encoding=True)
            chunked = exchange.headers.get("Transfer-Encoding") == "chunked"
            for name, value in exchange.headers.items():
                connection.putheader(name, value)
            body = self._body(exchange)
            if not chunked and (body or exchange.method in ("POST", "PUT")):
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders()
            if chunked:
                body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
            if body:
                connection.send(body)
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, headers, response.read())
        finally:
            connection.close()

    def _body(self, exchange: Exchange) -> bytes:
        """Put the ids of now into a body; both are latin-1 wherever ids can be."""
        return self.ours(exchange.body.decode("latin-1")).encode("latin-1")

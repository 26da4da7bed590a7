# SPDX-License-Identifier: Apache-2.0
"""A slot of the server, with this test in the place of the zygote and of the keeper."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from typing import Any

import pytest

from qinling_exec.runtime import system
from qinling_exec.runtime.slots import Slot


async def ended(slot: Slot, keeper: socket.socket) -> None:
    """Begin a run in a slot, and let its keeper say that it has ended."""
    words: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    channel = slot.begin(b"order", words.set_result)
    assert channel is not None
    message, descriptors = system.receive(keeper, 4)
    assert (message, len(descriptors)) == (b"run", 4)
    for number in descriptors:
        os.close(number)
    slot.prepare()  # as the function has it done after a run: that is too late by now
    keeper.setblocking(False)
    with pytest.raises(BlockingIOError):
        keeper.recv(64)
    keeper.setblocking(True)
    keeper.send(json.dumps({"status": 0, "last": False}).encode())
    assert (await words)["status"] == 0
    channel.close()


def test_the_next_run_begins_at_once_where_another_one_has_just_ended() -> None:
    async def work() -> None:
        zygote, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with zygote, theirs:
            slot = Slot(zygote, lambda lost: None)
            _, descriptors = system.receive(theirs, 1)
            with socket.socket(fileno=descriptors[0]) as keeper:
                for _ in range(3):  # nobody has prepared the slot between two of them
                    await ended(slot, keeper)
                slot.close()

    asyncio.run(work())

# SPDX-License-Identifier: Apache-2.0
"""What runs leave in directories that they share is gone when no run goes on."""

import asyncio
import os
import pathlib

import pytest

from qinling_exec.runtime.leftovers import Leftovers


@pytest.fixture
def shared(tmp_path: pathlib.Path) -> pathlib.Path:
    own = tmp_path / "own" / "runs"
    own.mkdir(parents=True)
    (own / "kept").touch()
    return tmp_path


def _leave(shared: pathlib.Path) -> None:
    (shared / "left").write_text("secret")
    (shared / "deep" / "er").mkdir(parents=True)
    (shared / "deep" / "er" / "left").touch()
    os.symlink("own", shared / "link")
    os.mkfifo(shared / "pipe")
    (shared / "deep" / "er").chmod(0)
    (shared / "deep").chmod(0)


def _names(shared: pathlib.Path) -> list[str]:
    return sorted(os.listdir(shared))


def test_all_but_the_worker_s_own_goes(shared: pathlib.Path) -> None:
    async def runs() -> None:
        leftovers = Leftovers([str(shared), "/there/is/none"], str(shared / "own" / "runs"))
        async with leftovers.used():
            _leave(shared)
        assert _names(shared) == ["own"]

    asyncio.run(runs())
    assert (shared / "own" / "runs" / "kept").exists(), "not through a link either"


def test_what_others_may_use_stays_until_the_last_has_ended(shared: pathlib.Path) -> None:
    async def runs() -> None:
        leftovers = Leftovers([str(shared)], str(shared / "own"))
        async with leftovers.used():
            async with leftovers.used():
                _leave(shared)
            assert "left" in _names(shared)
        assert _names(shared) == ["own"]

    asyncio.run(runs())


def test_nobody_begins_before_it_is_gone(shared: pathlib.Path) -> None:
    async def runs() -> None:
        leftovers = Leftovers([str(shared)], str(shared / "own"))
        ended = asyncio.Event()

        async def first() -> None:
            async with leftovers.used():
                for number in range(500):
                    (shared / str(number)).touch()
                await ended.wait()

        async def second() -> list[str]:
            async with leftovers.used():
                return _names(shared)

        task = asyncio.create_task(first())
        await asyncio.sleep(0.01)
        ended.set()
        await asyncio.sleep(0)  # the first has ended, and its files are about to go
        assert await second() == ["own"]
        await task

    asyncio.run(runs())


def test_a_run_that_breaks_leaves_nothing_either(shared: pathlib.Path) -> None:
    async def runs() -> None:
        leftovers = Leftovers([str(shared)], str(shared / "own"))
        with pytest.raises(ConnectionError):
            async with leftovers.used():
                _leave(shared)
                raise ConnectionError
        assert _names(shared) == ["own"]

    asyncio.run(runs())

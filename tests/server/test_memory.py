"""After a crowd of streams the server gives its memory back."""

from __future__ import annotations

import asyncio

import pytest

from lab_server.app import background
from lab_server.model.roles import ANYBODY
from lab_server.processes import memory
from lab_server.rpc.limits import Limits
from lab_server.watch.hub import Hub
from tests.memory_store import MemoryStore


@pytest.mark.slow
async def test_memory_is_given_back_after_each_crowd_and_not_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trims: list[int] = []
    checks = 0
    sleep = asyncio.sleep

    async def note_check(seconds: float) -> None:
        nonlocal checks
        checks += 1
        await sleep(0)

    async def some_checks() -> None:
        wanted = checks + 3
        while checks < wanted:
            await sleep(0.001)

    limits, hub = Limits(max_streams=1000, max_runs=1), Hub(MemoryStore())
    monkeypatch.setattr(asyncio, "sleep", note_check)
    monkeypatch.setattr(memory, "trim", lambda: trims.append(limits.num_ended))
    hub._tail_of("r")
    task = asyncio.create_task(background.give_back_memory(limits, hub))

    def crowd(num: int) -> None:
        for _ in range(num):
            with limits.stream(ANYBODY):
                pass

    crowd(49)
    await some_checks()
    assert trims == []
    assert hub._tails
    crowd(1)
    await some_checks()
    assert trims == [50]
    assert not hub._tails
    crowd(49)
    await some_checks()
    assert trims == [50]
    crowd(100)
    await some_checks()
    assert trims == [50, 199]
    task.cancel()


def test_trimming_is_harmless() -> None:
    memory.trim()
    memory.trim()

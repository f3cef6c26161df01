"""After a crowd of streams the server gives its memory back."""

from __future__ import annotations

import asyncio
import ctypes
import subprocess
import sys

import pytest

from lab_server.app import background
from lab_server.model.roles import ANYBODY
from lab_server.processes import memory
from lab_server.rpc.calls.limits import Limits
from lab_server.watch.hub import Hub
from tests.memory_store import MemoryStore

pytestmark = pytest.mark.slow


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


_SCRIPT = """
import ctypes
from lab_server.processes import memory

def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
begin = resident_bytes()
# below the size from which malloc maps a block of its own
blocks = [libc.malloc(100_000) for _ in range(401)]
for block in blocks:
    ctypes.memset(block, 1, 100_000)
for block in blocks[:-1]:  # the last one stays at the heap's end, so that glibc cannot shrink it
    libc.free(block)
kept = resident_bytes() - begin
memory.trim()
memory.trim()
print(kept, resident_bytes() - begin)
"""


def test_what_the_c_library_keeps_is_given_back() -> None:
    if not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("this C library gives memory back by itself")
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True
    )
    kept, left = map(int, done.stdout.split())
    assert kept > 30_000_000
    assert left < 5_000_000

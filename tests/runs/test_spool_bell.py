"""The bell between a trainer and who reads its spool: a hint that is heard, and that nothing depends on."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import pytest

from lab_server.executors import spool_bell
from lab_server.executors.spool_bell import SpoolBell
from lab_server.files.bell import Bell, listen

NEVER_S = 3600.0


@pytest.fixture(autouse=True)
def only_the_bell_ends_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_bell, "UNHEARD_S", NEVER_S)
    monkeypatch.setattr(spool_bell, "HEARD_S", NEVER_S)


async def listening(path: Path) -> SpoolBell:
    """Return a bell that is listened to."""
    bell = SpoolBell(path, NEVER_S)
    await bell.wait()  # the first one looks at once: something may have been written before
    return bell


async def test_a_ring_ends_the_wait(tmp_path: Path) -> None:
    bell = await listening(tmp_path / "1")
    wait = asyncio.create_task(bell.wait())
    await asyncio.sleep(0)
    Bell(tmp_path / "1").ring()
    await wait
    bell.close()


async def test_a_ring_that_came_before_the_wait_counts(tmp_path: Path) -> None:
    bell = await listening(tmp_path / "1")
    for _ in range(1000):  # more than the system keeps
        Bell(tmp_path / "1").ring()
    await bell.wait()
    bell.close()


async def test_each_spool_has_a_bell_of_its_own(tmp_path: Path) -> None:
    bell = await listening(tmp_path / "1")
    wait = asyncio.create_task(bell.wait())
    Bell(tmp_path / "2").ring()
    done, _ = await asyncio.wait((wait,), timeout=0.05)
    assert not done
    Bell(tmp_path / "1").ring()
    await wait
    bell.close()


async def test_a_wait_ends_by_whoever_rings_and_at_its_time(tmp_path: Path) -> None:
    bell = await listening(tmp_path / "1")
    wait = asyncio.create_task(bell.wait(math.inf))
    await asyncio.sleep(0)
    bell.ring()
    await wait
    await bell.wait(timeout_s=0.01)
    bell.close()


async def test_until_the_trainer_has_rung_the_spool_is_looked_at_more_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_bell, "UNHEARD_S", 0.001)
    bell = await listening(tmp_path / "1")
    await bell.wait()
    Bell(tmp_path / "1").ring()
    await bell.wait()
    wait = asyncio.create_task(bell.wait())
    done, _ = await asyncio.wait((wait,), timeout=0.05)
    assert not done
    bell.ring()
    await wait
    bell.close()


async def test_where_somebody_else_listens_it_polls_and_takes_over(tmp_path: Path) -> None:
    earlier = listen(tmp_path / "1")
    assert earlier is not None
    bell = SpoolBell(tmp_path / "1", 0.001)
    await bell.wait()
    earlier.close()
    await bell.wait()
    wait = asyncio.create_task(bell.wait())
    await asyncio.sleep(0)
    Bell(tmp_path / "1").ring()
    await wait
    bell.close()


def test_ringing_without_anybody_there_is_nothing(tmp_path: Path) -> None:
    Bell(tmp_path / "1").ring()

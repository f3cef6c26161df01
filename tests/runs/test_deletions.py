"""A deletion does all of it or nothing, also on a full disk, and frees the space there."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab_server.errors import NotFound, StoreError
from lab_server.files import reserve
from lab_server.files.reserve import Reserve
from lab_server.model.run import Run, RunParent, RunState
from lab_server.supervisor import Supervisor, live_runs
from lab_server.supervisor.run_files import NoOtherHomes
from tests.disks import fill, small_disk
from tests.runs.rig import Rig, becomes_true

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Give the home of the test's rigs a disk of its own."""
    with small_disk(tmp_path):
        yield tmp_path


def files_of(rig: Rig, run: Run) -> list[str]:
    """Return a run's files, without those of the spool, which go soon after its end."""
    found = (path.relative_to(rig.folder(run).path) for path in rig.folder(run).path.rglob("*"))
    return sorted(str(path) for path in found if "spool" not in path.parts)


async def is_gone(rig: Rig, run: Run) -> bool:
    """Whether neither the store nor the disk knows a run."""
    with pytest.raises(NotFound):
        await rig.supervisor.get(run.id)
    assert await rig.store.events(run.id, 0, 10**6) == ()
    return [path for path in rig.home.rglob("*") if run.id in path.name] == []


async def test_nothing_is_left_of_a_run_that_is_deleted_while_its_files_are_brought(
    rig: Rig,
) -> None:
    run = await rig.ended(await rig.start())
    await rig.supervisor.shut_down(stop_trainers=False)
    is_bringing, go_on = asyncio.Event(), asyncio.Event()

    class OtherHome(NoOtherHomes):
        def has(self, run: Run) -> bool:
            return run.home == "other"

        async def bring(self, run: Run) -> None:
            is_bringing.set()
            await go_on.wait()
            rig.folder(run).make()

    await rig.store.commit(replace(run, home="other"))
    rig.supervisor = Supervisor(
        rig.store, rig.hub, rig.executor, rig.home, rig.options, OtherHome()
    )
    await rig.supervisor.start_up()
    forking = asyncio.create_task(rig.create(parent=RunParent(run.id, 50)))
    await is_bringing.wait()
    await rig.supervisor.delete(run.id)
    go_on.set()
    with pytest.raises(NotFound):
        await forking
    assert await is_gone(rig, run)


async def test_a_full_disk_lets_runs_be_deleted_and_has_space_then(
    disk: Path, make_rig: Callable[..., Any]
) -> None:
    rig: Rig = await make_rig()
    runs = [await rig.ended(await rig.start()) for _ in range(3)]
    for run in runs:
        (rig.folder(run).path / "big").write_bytes(bytes(1 << 20))
    fill(disk)
    with pytest.raises(StoreError):
        await rig.create()
    await rig.supervisor.delete(runs[0].id)
    assert await is_gone(rig, runs[0])
    await rig.create()
    # the space that one deletion took for itself is there for the next
    for run in runs[1:]:
        fill(disk)
        await rig.supervisor.delete(run.id)
        assert await is_gone(rig, run)


async def test_a_server_starts_on_a_full_disk_and_shows_and_deletes_runs(
    disk: Path, make_rig: Callable[..., Any]
) -> None:
    rig: Rig = await make_rig()
    run, half_deleted = await rig.ended(await rig.start()), await rig.ended(await rig.start())
    points = await rig.points(run)
    await rig.close()
    rig.folder(half_deleted).path.rename(disk / "trash" / half_deleted.id)
    fill(disk)
    await rig.open()
    assert await rig.points(run) == points
    assert await is_gone(rig, half_deleted)
    await rig.supervisor.delete(run.id)
    assert await is_gone(rig, run)


class Refusals:
    """Makes a method of a rig's store fail some number of times, as on a full disk."""

    def __init__(self, rig: Rig, patch: pytest.MonkeyPatch, name: str, num: int) -> None:
        self.num_left = num
        self._real = getattr(rig.store, name)
        patch.setattr(rig.store, name, self._call)

    async def _call(self, *arguments: Any) -> Any:
        if self.num_left:
            self.num_left -= 1
            raise StoreError("the disk is full")
        return await self._real(*arguments)


async def test_a_run_that_the_store_does_not_delete_keeps_its_files(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await rig.ended(await rig.start())
    files = files_of(rig, run)
    refusals = Refusals(rig, monkeypatch, "delete", 2)
    with pytest.raises(StoreError):
        await rig.supervisor.delete(run.id)
    assert refusals.num_left == 0
    assert files_of(rig, run) == files
    assert (rig.home / "reserve").stat().st_size == reserve.SIZE_BYTES
    await rig.supervisor.delete(run.id)
    assert await is_gone(rig, run)


async def test_without_a_reserve_a_deletion_is_not_tried_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await rig.ended(await rig.start())
    refusals = Refusals(rig, monkeypatch, "delete", 2)
    (rig.home / "reserve").unlink()
    with pytest.raises(StoreError):
        await rig.supervisor.delete(run.id)
    assert refusals.num_left == 1
    assert (await rig.supervisor.get(run.id)).state is RunState.COMPLETED


async def test_files_that_cannot_be_moved_are_an_error_and_the_run_stays(rig: Rig) -> None:
    run = await rig.ended(await rig.start())
    shutil.rmtree(rig.home / "trash")
    (rig.home / "trash").touch()
    with pytest.raises(StoreError, match="the run's files cannot be deleted: "):
        await rig.supervisor.delete(run.id)
    assert (await rig.supervisor.get(run.id)).state is RunState.COMPLETED
    assert files_of(rig, run)


async def test_events_that_the_store_does_not_delete_yet_go_later(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_runs, "_RETRY_S", 0.01)
    run = await rig.ended(await rig.start())
    refusals = Refusals(rig, monkeypatch, "purge", 3)
    await rig.supervisor.delete(run.id)
    trash = rig.home / "trash" / run.id
    assert list(trash.iterdir()) == []
    await becomes_true(lambda: not trash.exists())
    assert refusals.num_left == 0
    assert await is_gone(rig, run)


async def test_events_that_no_server_deleted_are_deleted_by_the_next(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await rig.ended(await rig.start())
    with monkeypatch.context() as patch:
        Refusals(rig, patch, "purge", 10**9)
        await rig.supervisor.delete(run.id)
        assert await rig.store.events(run.id, 0, 10**6)
    await rig.restart()
    await becomes_true(lambda: not (rig.home / "trash" / run.id).exists())
    assert await is_gone(rig, run)


async def test_a_deletion_that_a_full_store_lets_nobody_finish_is_undone(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await rig.ended(await rig.start())
    files = files_of(rig, run)
    rig.folder(run).path.rename(rig.home / "trash" / run.id)
    with monkeypatch.context() as patch:
        Refusals(rig, patch, "delete", 10**9)
        await rig.supervisor._deletions.start_up()
    assert files_of(rig, run) == files
    assert (await rig.supervisor.get(run.id)).state is RunState.COMPLETED


async def test_a_reserve_takes_what_there_is_and_more_when_there_is_more(disk: Path) -> None:
    kept = Reserve(disk / "reserve")
    other = disk / "other"
    with other.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 13 << 20)
    kept.fill()
    path = disk / "reserve"
    assert path.stat().st_size == path.stat().st_blocks * 512 == reserve.SIZE_BYTES // 4
    await asyncio.to_thread(other.unlink)
    kept.fill()
    kept.fill()
    assert path.stat().st_size == reserve.SIZE_BYTES
    assert kept.release()
    assert not kept.release()
    fill(disk)
    kept.fill()
    assert not kept.release()

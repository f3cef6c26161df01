"""Old runs are deleted by age and by number; nothing that has not ended ever is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lab_server.errors import InvalidState, NotFound
from lab_server.model.run import Run, RunRequest, RunState
from lab_server.store import SqlStore
from lab_server.supervisor.retention import Retention
from tests.memory_store import MemoryStore

DAY_NS = 24 * 3600 * 10**9
NOW_NS = 100 * DAY_NS


def ended(run_id: str, days_ago: float, state: RunState = RunState.COMPLETED) -> Run:
    end_time_ns = NOW_NS - round(days_ago * DAY_NS)
    return Run(run_id, RunRequest("mnist"), state=state, end_time_ns=end_time_ns)


RUNS = [
    ended("old", 9),
    ended("oldest", 30, RunState.FAILED),
    ended("new", 1, RunState.STOPPED),
    ended("newest", 0),
    Run("running", RunRequest("mnist"), state=RunState.RUNNING),
    Run("queued", RunRequest("mnist"), state=RunState.QUEUED),
    Run("created", RunRequest("mnist")),
]


@pytest.mark.parametrize(
    ("retention", "expected"),
    [
        (Retention(), ()),
        (Retention(days=10), ("oldest",)),
        (Retention(days=0.5), ("oldest", "old", "new")),
        (Retention(days=1000), ()),
        (Retention(count=1), ("oldest", "old", "new")),
        (Retention(count=3), ("oldest",)),
        (Retention(count=4), ()),
        (Retention(count=3, days=5), ("oldest", "old")),
        (Retention(count=2, days=20), ("oldest", "old")),
    ],
)
def test_the_runs_that_ended_first_expire(retention: Retention, expected: tuple[str, ...]) -> None:
    assert retention.expired(RUNS, NOW_NS) == expected


async def test_old_runs_are_looked_for_without_their_metrics(tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path}/lab.db")
    values = {f"metric_{index}": 0.5 for index in range(3)}
    old = replace(ended("old", 9), metrics=values, extremes=dict.fromkeys(values, (0.5, 0.5)))
    await store.create(old, None)
    seen: list[Run] = []

    def see(run: Run) -> bool:
        seen.append(run)
        return False

    await Retention(count=1).apply(store, store.delete, NOW_NS, see)
    assert [(run.id, run.metrics, run.extremes) for run in seen] == [("old", {}, {})]
    await store.close()


async def test_expired_runs_are_deleted_and_the_others_stay() -> None:
    store = MemoryStore()
    for run in RUNS:
        await store.create(run, None)

    assert await Retention(count=1).apply(store, store.delete, NOW_NS) == ("oldest", "old", "new")
    assert await Retention(count=1).apply(store, store.delete, NOW_NS) == ()
    assert set(await store.ids_with_prefix("", limit=99)) == {
        "newest",
        "running",
        "queued",
        "created",
    }


async def test_retention_is_off_by_default() -> None:
    store = MemoryStore()
    await store.create(ended("oldest", 9999), None)

    assert not Retention().is_on
    assert await Retention().apply(store, store.delete, NOW_NS) == ()


@pytest.mark.parametrize("error", [InvalidState("it was resumed"), NotFound("run", "oldest")])
async def test_a_run_that_cannot_be_deleted_any_more_is_passed_over(error: Exception) -> None:
    store = MemoryStore()
    for run in RUNS:
        await store.create(run, None)

    async def delete(run_id: str) -> None:
        if run_id == "oldest":
            raise error
        await store.delete(run_id)

    assert await Retention(count=2).apply(store, delete, NOW_NS) == ("old",)


async def test_more_runs_than_a_page_are_all_looked_at() -> None:
    store = MemoryStore()
    for index in range(1201):
        await store.create(ended(f"r{index:04}", index), None)

    deleted = await Retention(count=1).apply(store, store.delete, NOW_NS)

    assert len(deleted) == 1200

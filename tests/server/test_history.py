"""The history of metrics: what a resume took back is gone, and a plot's points are few."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab_server.errors import NotFound
from lab_server.messages import events
from lab_server.messages.events import EncodedEvent
from lab_server.model.run import Run, RunRequest
from lab_server.watch.history import query_metrics
from lab_server.watch.series import MetricFold, Series, thin
from tests.memory_store import MemoryStore


@dataclasses.dataclass
class Column:
    name: str
    steps: Sequence[int]
    values: Sequence[float]


def metrics(steps: Sequence[int], **values: Sequence[float]) -> list[EncodedEvent]:
    return events.encode_metrics(1, 1, [Column(name, steps, v) for name, v in values.items()])


def truncate(after_step: int) -> list[EncodedEvent]:
    return [events.encode_truncate(2, 1, after_step)]


def plain(series: Sequence[Series]) -> dict[str, dict[int, float]]:
    assert all(len(s.steps) == len(set(s.steps.tolist())) for s in series)
    return {s.name: dict(zip(s.steps.tolist(), s.values.tolist(), strict=True)) for s in series}


def folded(*parts: list[EncodedEvent]) -> dict[str, dict[int, float]]:
    fold = MetricFold()
    for part in parts:
        fold.add(event.payload for event in part)
    return plain(fold.series())


async def a_store(*parts: list[EncodedEvent]) -> MemoryStore:
    store = MemoryStore()
    new = [event for part in parts for event in part]
    await store.create(Run("r1", RunRequest("mnist")), None)
    await store.commit(Run("r1", RunRequest("mnist"), last_seq=len(new)), new)
    return store


def test_batches_become_one_series_a_metric() -> None:
    found = folded(
        metrics([1, 2], loss=[0.5, 0.4]),
        metrics([2], accuracy=[0.9]),
        metrics([3], loss=[0.3]),
    )

    assert found == {"accuracy": {2: 0.9}, "loss": {1: 0.5, 2: 0.4, 3: 0.3}}


def test_a_metric_measured_at_some_steps_keeps_those() -> None:
    columns = [Column("a", [1, 2, 3], [1, 2, 3]), Column("b", [3, 1], [30, 10])]

    assert folded(events.encode_metrics(1, 1, columns)) == {
        "a": {1: 1, 2: 2, 3: 3},
        "b": {1: 10, 3: 30},
    }


def test_a_truncate_drops_what_came_later() -> None:
    found = folded(
        metrics([1, 2, 3], a=[1, 2, 3]),
        metrics([4], a=[4], late=[4]),
        truncate(2),
        metrics([3, 4], a=[33, 44]),
    )

    assert found == {"a": {1: 1, 2: 2, 3: 33, 4: 44}}


def test_truncates_one_after_the_other_each_drop() -> None:
    found = folded(metrics([1, 2, 3], a=[1, 2, 3]), truncate(2), truncate(-1), metrics([1], a=[9]))

    assert found == {"a": {1: 9}}


def test_a_run_that_begins_anew_drops_its_step_0_too() -> None:
    assert folded(metrics([0, 1], a=[5, 6]), truncate(-1), metrics([1], a=[7])) == {"a": {1: 7}}


def test_a_step_measured_twice_counts_as_measured_last() -> None:
    columns = [Column("a", [2, 1, 2], [1, 2, 3])]

    assert folded(events.encode_metrics(1, 1, columns), metrics([1], a=[7])) == {"a": {1: 7, 2: 3}}


STEP_LISTS = st.lists(
    st.one_of(
        st.integers(-1, 12).map(lambda step: ("truncate", [step])),
        st.lists(st.integers(0, 12), min_size=1, max_size=5).map(lambda steps: ("metrics", steps)),
    ),
    max_size=10,
)


@pytest.mark.slow
@settings(deadline=None)
@given(script=STEP_LISTS)
def test_folding_is_what_a_plain_reader_of_the_log_would_do(
    script: list[tuple[str, list[int]]],
) -> None:
    history: dict[int, float] = {}
    fold = MetricFold()
    value = 0.0
    for what, steps in script:
        if what == "truncate":
            history = {step: v for step, v in history.items() if step <= steps[0]}
            fold.add([truncate(steps[0])[0].payload])
            continue
        values = [value + index for index in range(len(steps))]
        value += len(steps)
        history |= dict(zip(steps, values, strict=True))
        (event,) = events.encode_metrics(1, 1, [Column("a", steps, values)])
        fold.add([event.payload])

    assert plain(fold.series()) == ({"a": history} if history else {})


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, {"train.loss": 3, "train.acc": 3, "test[0]": 3}),
        ({"names": ["train.*"]}, {"train.loss": 3, "train.acc": 3}),
        ({"names": ["*acc", "test[0]"]}, {"train.acc": 3, "test[0]": 3}),
        ({"names": ["train.los?"]}, {"train.loss": 3}),
        ({"names": ["loss"]}, {}),
        ({"min_step": 2, "max_step": 2, "names": ["*loss"]}, {"train.loss": 1}),
        ({"min_step": 3}, {"train.loss": 1, "train.acc": 1, "test[0]": 1}),
        ({"max_step": -1}, {}),
        ({"min_step": 3, "max_step": 1}, {}),
    ],
)
async def test_metrics_are_picked_by_name_and_step(
    arguments: Mapping[str, object], expected: Mapping[str, int]
) -> None:
    names = ["train.loss", "train.acc", "test[0]"]
    columns = [Column(name, [1, 2, 3], [0.0, 1.0, 2.0]) for name in names]
    store = await a_store(events.encode_metrics(1, 1, columns))

    found = await query_metrics(store, "r1", **arguments)  # type: ignore[arg-type]

    assert {s.name: s.num_points for s in found} == expected


async def test_a_history_of_many_events_is_read_to_its_end() -> None:
    steps = range(300_000)
    parts = [
        metrics(steps[i : i + 10_000], a=steps[i : i + 10_000]) for i in range(0, 300_000, 10_000)
    ]
    store = await a_store(*parts)

    (whole,) = await query_metrics(store, "r1")
    (few,) = await query_metrics(store, "r1", max_points=50)

    assert whole.steps.tolist() == list(steps)
    assert whole.num_points == few.num_points == 300_000
    assert len(few.steps) == 50
    assert (few.min_value, few.max_value, few.last_value) == (0, 299_999, 299_999)
    assert (few.steps[0], few.steps[-1]) == (0, 299_999)


async def test_what_is_said_of_a_thinned_series_is_said_of_all_its_points() -> None:
    values = [0.5] * 1000
    # a valley and a peak that three points cannot all show, and a last value that is none
    values[500], values[501], values[502], values[999] = -math.inf, -3.0, 7.0, math.nan
    store = await a_store(metrics(range(1000), a=values, b=[math.nan] * 1000))

    a, b = await query_metrics(store, "r1", max_points=1)

    assert (len(a.steps), a.num_points) == (1, 1000)
    assert (a.min_value, a.max_value) == (-3.0, 7.0)
    assert math.isnan(a.last_value)
    assert all(map(math.isnan, (b.min_value, b.max_value, b.last_value)))


async def test_the_history_of_an_unknown_run_is_not_found() -> None:
    with pytest.raises(NotFound):
        await query_metrics(MemoryStore(), "r1")


async def test_a_run_without_metrics_has_no_series() -> None:
    assert await query_metrics(await a_store(), "r1") == []


@settings(deadline=None)
@given(
    values=st.lists(st.floats(), max_size=60),
    max_points=st.integers(1, 70),
    start=st.integers(-(2**63), 2**63 - 1000),
    gap=st.integers(1, 2**40),
)
def test_thinning_keeps_to_its_number_and_picks_real_points_in_order(
    values: list[float], max_points: int, start: int, gap: int
) -> None:
    steps = np.array([min(start + i * gap, 2**63 - 100 + i) for i in range(len(values))], np.int64)

    indices = thin(steps, np.array(values), max_points)

    assert len(indices) <= max_points
    assert len(indices) == len(values) or len(indices) >= min(max_points, 1)
    assert (np.diff(indices) > 0).all()
    assert all(0 <= index < len(values) for index in indices)


def test_thinning_keeps_the_spikes_and_both_ends() -> None:
    values = np.sin(np.arange(100_000) / 5000)
    values[[31_234, 70_001]] = [99.0, -99.0]

    kept = thin(np.arange(100_000), values, 200).tolist()

    assert {0, 31_234, 70_001, 99_999} <= set(kept)
    assert len(kept) == 200


def test_thinning_shows_where_nan_begins() -> None:
    values = np.ones(10_000)
    values[5_000:6_000] = math.nan
    values[8_000] = math.inf

    kept = thin(np.arange(10_000), values, 100)

    assert {5_000, 8_000} <= set(kept.tolist())
    assert np.isnan(values[kept]).sum() == 1


def test_thinning_of_nothing_but_nan_shows_it() -> None:
    assert thin(np.arange(1000), np.full(1000, math.nan), 10).tolist() == [0]

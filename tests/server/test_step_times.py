"""When a run was at which step, as an axis of charts: it never goes back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lab_server.messages import events
from lab_server.model.run import Run, RunRequest
from lab_server.watch.curves import CurveQuery, query_curves
from lab_server.watch.step_times import StepTimes
from lab_server.watch.tails import Tails
from tests.memory_store import MemoryStore

RUN = Run("r1", RunRequest("mnist"))


class Column:
    name = "loss"

    def __init__(self, num: int) -> None:
        self.steps = range(num)
        self.values = [float(step) for step in self.steps]


async def test_no_point_is_lost_where_a_clock_was_set_back() -> None:
    store = MemoryStore()
    await store.create(RUN, None)
    seconds = [100, 110, 120, 60, 70, 125, 130]  # the run was resumed on another machine, say
    told = [
        events.encode_progress(1, int(second * 1e9), step, 7) for step, second in enumerate(seconds)
    ]
    told += events.encode_metrics(1, 1, [Column(7)])
    run = replace(RUN, last_seq=len(told))
    await store.commit(run, told)

    steps, found = await StepTimes().of(store, run)
    assert steps.tolist() == list(range(7))
    assert found.tolist() == [100, 110, 120, 120, 120, 125, 130]

    query = CurveQuery(["loss"], axis="relative", num_buckets=3)
    chart = await query_curves(store, StepTimes(), Tails(), [run], query)
    (curve,) = chart.curves
    columns = curve.bucketed.columns
    np.testing.assert_equal(columns["min"], [0, 1, 2])  # from 0, 10 and 20 s on
    np.testing.assert_equal(columns["max"], [0, 1, 6])

"""ListRuns with a condition: pages, counts, warnings; and the extremes that conditions ask for."""

from __future__ import annotations

import dataclasses
import math
from array import array
from pathlib import Path

from lab_rpc.v1 import event_pb2, training_service_pb2
from lab_server.messages import events
from lab_server.messages.events import EncodedEvent
from lab_server.messages.extremes import with_columns
from lab_server.messages.projection import apply_events
from lab_server.model.run import Run, RunRequest, RunState
from lab_server.store import RunQuery, SqlStore
from lab_server.where import parse
from tests.server.conftest import Surface

pb = training_service_pb2


async def found(surface: Surface, where: str, **request: object) -> list[str]:
    """Return the names of all pages, two runs a page."""
    names: list[str] = []
    message = pb.ListRunsRequest(where=where, page_size=2, **request)  # type: ignore[arg-type]
    while True:
        page = await surface.stub.ListRuns(message)
        names += [run.name for run in page.runs]
        message.page_token = page.next_page_token
        if not page.next_page_token:
            return names


async def test_a_condition_finds_runs_on_all_pages(surface: Surface) -> None:
    for index in range(5):
        run = await surface.run(name=f"n{index}", tags=["odd"] if index % 2 else [])
        metrics = {"acc": index / 10}
        await surface.supervisor.move(run, RunState.RUNNING, metrics=metrics)

    assert await found(surface, "acc >= 0.1") == ["n4", "n3", "n2", "n1"]
    assert await found(surface, "acc >= 0.1", order_by="acc") == ["n1", "n2", "n3", "n4"]
    assert await found(surface, "not tag = odd and acc > 0", order_by="name") == ["n2", "n4"]
    assert await found(surface, "  ", order_by="acc desc") == ["n4", "n3", "n2", "n1", "n0"]
    # what the plan says, though nobody set it
    assert await found(surface, "epochs = 10 and optimizer = sgd_optimizer and acc = 0") == ["n0"]
    assert await found(surface, "config.acc > 0 or metric.epochs > 0") == []


async def test_the_first_page_counts_all(surface: Surface) -> None:
    for index in range(3):
        await surface.run(name=f"n{index}")
    first = await surface.stub.ListRuns(pb.ListRunsRequest(where="name ~ n", page_size=2))
    assert (len(first.runs), first.num_all) == (2, 3)
    second = pb.ListRunsRequest(where="name ~ n", page_token=first.next_page_token)
    assert (await surface.stub.ListRuns(second)).num_all == 0
    assert (await surface.stub.ListRuns(pb.ListRunsRequest(where="name = n1"))).num_all == 1


async def test_an_unknown_name_is_warned_of_when_nothing_is_found(surface: Surface) -> None:
    await surface.run()
    page = await surface.stub.ListRuns(pb.ListRunsRequest(where="epoch > 3 and learning_rate < 1"))
    assert list(page.warnings) == [
        "no recent run has a config or metric 'epoch'; did you mean 'epochs'?"
    ]
    page = await surface.stub.ListRuns(pb.ListRunsRequest(where="epochs > 30"))
    assert not page.warnings


async def test_the_durations_of_all_pages_are_of_one_moment(tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path}/lab.db")
    for index in range(3):
        started = (index + 1) * 10**9
        await store.create(Run(f"r{index}", RunRequest("mnist"), start_time_ns=started), None)
    where = parse("duration >= 2s")
    query = RunQuery(where=where, limit=1, now_ns=4 * 10**9)
    page = await store.list(query)
    later = dataclasses.replace(query, after=page.next_after, now_ns=9 * 10**9, limit=9)
    assert [run.id for run in (*page.runs, *(await store.list(later)).runs)] == ["r1", "r0"] or [
        run.id for run in (*page.runs, *(await store.list(later)).runs)
    ] == ["r0", "r1"]
    await store.close()


def measured(step: int, **metrics: list[float]) -> EncodedEvent:
    message = event_pb2.Metrics(steps=range(step, step + len(next(iter(metrics.values())))))
    for name, values in metrics.items():
        message.columns.add(name=name, values=values)
    event = event_pb2.RunEvent(attempt=1, metrics=message)
    return events.recognise(event.SerializeToString())


def test_extremes_grow_with_what_is_measured_and_leave_out_what_is_not_finite() -> None:
    run = Run("r1", RunRequest("mnist"))
    run = apply_events(run, [measured(0, a=[2.0, 1.0], b=[math.nan, math.inf])])
    assert run.extremes == {"a": (1.0, 2.0)}
    run = apply_events(run, [measured(2, a=[1.5], b=[-3.0]), measured(3, a=[7.0])])
    assert run.extremes == {"a": (1.0, 7.0), "b": (-3.0, -3.0)}


def test_extremes_of_many_values_are_those_of_each() -> None:
    values = array("d", [math.sin(index) * 100 for index in range(5000)])
    values[17], values[18] = math.nan, -math.inf
    column = event_pb2.MetricColumn(name="a", values=values)
    (low, high) = with_columns({}, [column])["a"]
    finite = [value for value in values if math.isfinite(value)]
    assert (low, high) == (min(finite), max(finite))
    all_nan = event_pb2.MetricColumn(name="b", values=[math.nan] * 5000)
    assert with_columns({"a": (0.0, 1.0)}, [all_nan]) == {"a": (0.0, 1.0)}


def test_a_resume_leaves_stale_extremes_and_a_new_beginning_none() -> None:
    run = apply_events(Run("r1", RunRequest("mnist")), [measured(0, a=[5.0, 1.0])])
    resumed = apply_events(run, [events.encode_truncate(2, 0, 0, checkpoint_step=1)])
    assert (resumed.extremes, resumed.has_stale_extremes) == ({"a": (1.0, 5.0)}, True)
    anew = apply_events(run, [events.encode_truncate(2, 0, -1)])
    assert (anew.extremes, anew.has_stale_extremes) == ({}, False)

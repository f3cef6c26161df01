"""Points, batches and history: what becomes of the metrics in a run's log."""

from __future__ import annotations

import math
from typing import Any

import pytest

from lab_client import Point, errors
from lab_client.events import Metrics
from lab_rpc.v1 import event_pb2
from tests.client.twin import Twin, TwinRun


def finish(run: TwinRun) -> str:
    run.state(event_pb2.RUN_STATE_COMPLETED)
    return run.message.id


def test_points_are_the_rows_of_the_columns(client: Any, twin: Twin) -> None:
    run = twin.add_run()
    run.message.attempt = 1
    run.measure(0, loss=[1.0, 0.5], accuracy=[0.1, 0.2])
    points = list(client.run(finish(run)).metrics())
    assert points == [
        Point(0, {"loss": 1.0, "accuracy": 0.1}, 1),
        Point(1, {"loss": 0.5, "accuracy": 0.2}, 1),
    ]


def test_columns_with_holes_give_points_with_what_there_is(client: Any, twin: Twin) -> None:
    run = twin.add_run()
    run.add(
        metrics=event_pb2.Metrics(
            steps=[1, 2, 3],
            columns=[
                event_pb2.MetricColumn(name="loss", values=[0.1, 0.2, 0.3]),
                event_pb2.MetricColumn(name="accuracy", values=[0.9], rows=[2]),
            ],
        )
    )
    handle = client.run(finish(run))
    points = list(handle.metrics())
    assert [point.values for point in points] == [
        {"loss": 0.1},
        {"loss": 0.2},
        {"loss": 0.3, "accuracy": 0.9},
    ]
    assert [(p.step, p.values) for p in handle.metrics("acc*")] == [(3, {"accuracy": 0.9})]


def test_nan_and_infinities_are_kept(client: Any, twin: Twin) -> None:
    run = twin.add_run()
    run.measure(0, loss=[math.nan, math.inf, -math.inf])
    nan, plus, minus = (p.values["loss"] for p in client.run(finish(run)).metrics())
    assert math.isnan(nan)
    assert (plus, minus) == (math.inf, -math.inf)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (None, {"train_loss", "test_loss", "accuracy"}),
        ("*_loss", {"train_loss", "test_loss"}),
        (["acc*", "test_????"], {"test_loss", "accuracy"}),
        ("loss", set()),
        ("layers[0].w", {"layers[0].w"}),
        ("layers[*", {"layers[0].w"}),
    ],
)
def test_names_are_globs(client: Any, twin: Twin, names: Any, expected: set[str]) -> None:
    run = twin.add_run()
    columns = {"train_loss": [1.0], "test_loss": [1.0], "accuracy": [0.1]}
    if names and "layers" in names:
        columns["layers[0].w"] = [0.5]
    run.measure(0, **columns)
    handle = client.run(finish(run))
    points = list(handle.metrics(names))
    assert {name for point in points for name in point.values} == expected
    assert names is None or set(handle.history(names)) == expected


def test_every_thins_each_metric_on_its_own(client: Any, twin: Twin) -> None:
    run = twin.add_run()
    for first in range(0, 100, 10):
        run.measure(first, loss=[float(first + row) for row in range(10)])
    run.measure(99, accuracy=[0.5])
    points = list(client.run(finish(run)).metrics(every=25))
    assert [(p.step, *p.values) for p in points] == [
        (0, "loss"),
        (25, "loss"),
        (50, "loss"),
        (75, "loss"),
        (99, "accuracy"),
    ]
    with pytest.raises(errors.InvalidRequest):
        list(client.run(run.message.id).metrics(every=0))


def test_steps_after_a_truncation_come_again_with_a_higher_attempt(client: Any, twin: Twin) -> None:
    run = twin.add_run()
    run.message.attempt = 1
    run.measure(0, loss=[4.0, 3.0, 2.0])
    run.message.attempt = 2
    run.add(truncate=event_pb2.Truncate(after_step=0))
    run.measure(1, loss=[3.5, 2.5])
    handle = client.run(finish(run))
    assert [(p.step, p.attempt) for p in handle.metrics()] == [
        (0, 1),
        (1, 1),
        (2, 1),
        (1, 2),
        (2, 2),
    ]
    assert [(p.step, p.attempt) for p in handle.metrics(every=2)] == [(0, 1), (2, 1), (1, 2)]
    assert handle.history()["loss"].steps == [0, 1, 2]
    assert handle.history()["loss"].values == [4.0, 3.5, 2.5]


def test_an_attempt_that_begins_anew_takes_back_all_steps(client: Any, twin: Twin) -> None:
    run = twin.add_run()
    run.measure(0, loss=[4.0, 3.0])
    run.add(truncate=event_pb2.Truncate(after_step=-1))
    run.measure(0, loss=[3.5])
    handle = client.run(finish(run))
    assert [p.step for p in handle.metrics(every=5)] == [0, 0]
    assert handle.history()["loss"].values == [3.5]


def test_the_points_of_an_event_know_their_attempt(client: Any, twin: Twin) -> None:
    run = twin.add_run(attempt=3)
    run.measure(5, loss=[1.0, 2.0])
    run.add(
        metrics=event_pb2.Metrics(
            steps=[7, 8], columns=[event_pb2.MetricColumn(name="acc", values=[0.5], rows=[1])]
        )
    )
    events = client.run(finish(run)).events()
    bodies = [event.body for event in events if isinstance(event.body, Metrics)]
    assert [point.attempt for body in bodies for point in body.points()] == [3, 3, 3]
    (first, _) = client.run(run.message.id).batches()
    assert {point.attempt for point in first.metrics.points()} == {3}


def test_batches_are_columns_and_truncations(client: Any, twin: Twin) -> None:
    run = twin.add_run()
    run.measure(5, loss=[1.0, 2.0])
    run.add(truncate=event_pb2.Truncate(after_step=5))
    first, second = client.run(finish(run)).batches()
    assert isinstance(first.metrics, Metrics)
    assert first.metrics.steps == [5, 6]
    assert first.metrics.columns["loss"].values == [1.0, 2.0]
    assert (second.metrics, second.truncate_after) == (None, 5)


def test_an_event_of_a_newer_server_is_unknown_and_not_an_error(client: Any, twin: Twin) -> None:
    run = twin.add_run()
    run.add()
    events = list(client.run(finish(run)).events())
    assert [event.kind for event in events] == ["unknown", "state"]
    assert events[0].time.year == 2001


@pytest.mark.slow
def test_history_becomes_a_frame_and_a_figure(client: Any, twin: Twin) -> None:
    run = twin.add_run()
    run.measure(0, loss=[1.0, 0.5])
    run.measure(1, accuracy=[0.9])
    handle = client.run(finish(run))
    frame = handle.history().to_pandas()
    assert frame.index.name == "step"
    assert frame["loss"].tolist() == [1.0, 0.5]
    assert math.isnan(frame["accuracy"][0])
    assert frame["accuracy"][1] == 0.9
    figure = handle.plot(["loss"])
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["loss"]
    assert handle.history("nothing").plot().axes
    assert handle.history("nothing").to_pandas().empty
    shown = repr(handle.history())
    assert "name='loss'" in shown
    assert "num_points=2" in shown
    assert "[" not in shown, "a notebook shows no million of points"


@pytest.mark.slow
def test_a_plot_shows_the_main_metrics_unless_others_are_named(client: Any, twin: Twin) -> None:
    run = twin.add_run()
    layers = {f"model.conv{index}.weight": [1.0, 2.0] for index in range(9)}
    run.measure(0, loss=[1.0, 0.5], accuracy=[0.1, 0.2], **layers)
    handle = client.run(finish(run))

    def titles(figure: Any) -> list[str]:
        return [axis.get_title(loc="left") for axis in figure.axes]

    assert titles(handle.plot()) == titles(handle.history().plot()) == ["loss", "accuracy"]
    assert len(titles(handle.plot(["model.*"]))) == 9
    assert titles(handle.plot("loss")) == titles(handle.history().plot("loss")) == ["loss"]

"""A run of the tutorial's CNN on real digits, through a real server: every view of it tells the same."""

from __future__ import annotations

import math
import sqlite3
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import lab_client
from lab_client.events import Event, Metrics, StateChange

pytestmark = pytest.mark.slow

EPOCHS = 2
NUM_STEPS = EPOCHS * math.ceil(4000 / 64)
CONFIGS: dict[str, lab_client.configs.PlainValue] = {
    "dataset": "mnist_5k",
    "epochs": EPOCHS,
    "learning_rate": 0.05,
    "momentum": 0.9,
}
Values = dict[tuple[str, int], float]


class Watched:
    """A run with what a first watcher saw of it, and what /metrics showed meanwhile."""

    def __init__(self, run: lab_client.Run, http_url: str) -> None:
        self.run = run
        self.events: list[Event] = []
        self.page = ""
        for event in run.events():
            self.events.append(event)
            if not self.page and isinstance(event.body, Metrics):
                self.page = scrape(http_url)


def scrape(http_url: str) -> str:
    with urllib.request.urlopen(f"{http_url}/metrics", timeout=10) as page:
        text: str = page.read().decode()
        return text


def scalars(events: list[Event]) -> Values:
    return {
        (name, point.step): value
        for event in events
        if isinstance(event.body, Metrics)
        for point in event.body.points()
        for name, value in point.values.items()
        if not name.startswith("system.")  # what a run uses of its machine, not what it tracks
    }


@pytest.fixture(scope="module")
def client(server: object) -> Iterator[lab_client.Client]:
    with lab_client.Client(server.address) as client:  # type: ignore[attr-defined]
        yield client


@pytest.fixture(scope="module")
def watched(client: lab_client.Client, server: object) -> Watched:
    run = client.create("mnist", CONFIGS, name="end to end").start()
    return Watched(run, server.http_url)  # type: ignore[attr-defined]


def test_the_run_completes_and_learns(watched: Watched) -> None:
    info = watched.run.wait()

    assert info.state == "COMPLETED", info.reason
    assert info.step == NUM_STEPS
    assert info.metrics["accuracy"] > 0.85


def test_events_are_gap_free_from_1_and_end_with_the_terminal_state(watched: Watched) -> None:
    assert [event.seq for event in watched.events] == list(range(1, len(watched.events) + 1))

    states = [event.body.state for event in watched.events if isinstance(event.body, StateChange)]
    assert states == ["CREATED", "QUEUED", "STARTING", "RUNNING", "COMPLETED"]
    assert isinstance(watched.events[-1].body, StateChange)


def test_every_step_has_its_train_loss_exactly_once(watched: Watched) -> None:
    steps = [
        point.step
        for event in watched.events
        if isinstance(event.body, Metrics)
        for point in event.body.points()
        if "train_loss" in point.values
    ]
    assert sorted(steps) == list(range(1, NUM_STEPS + 1))


def test_metrics_of_an_epoch_stand_at_its_last_step(watched: Watched) -> None:
    values = scalars(watched.events)
    for name in ("test_loss", "accuracy"):
        steps = sorted(step for indicator, step in values if indicator == name)
        assert steps == [NUM_STEPS // EPOCHS * epoch for epoch in range(1, EPOCHS + 1)]


def test_sqlite_and_the_stream_hold_the_same_values(watched: Watched) -> None:
    folder = Path(watched.run.wait().folder)
    database = sqlite3.connect(f"file:{folder / 'sqlite.db'}?mode=ro", uri=True)
    rows = database.execute("SELECT indicator, step, value FROM scalars").fetchall()
    database.close()

    assert {(name, step): value for name, step, value in rows} == scalars(watched.events)


def test_tensorboard_and_the_stream_hold_the_same_values(watched: Watched) -> None:
    folder = Path(watched.run.wait().folder)
    board = EventAccumulator(
        str(folder / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0}
    )
    board.Reload()
    streamed = scalars(watched.events)

    for name in ("train_loss", "test_loss", "accuracy"):
        if name in board.Tags()["scalars"]:
            recorded = {event.step: event.value for event in board.Scalars(name)}
        else:
            recorded = {e.step: e.tensor_proto.float_val[0] for e in board.Tensors(name)}
        expected = {
            step: value for (indicator, step), value in streamed.items() if indicator == name
        }
        # TensorBoard keeps 32 bits of a value.
        assert recorded == pytest.approx(expected, rel=1e-6)


def test_a_watcher_that_joins_late_sees_the_same_events(
    watched: Watched, client: lab_client.Client
) -> None:
    assert list(client.run(watched.run.id).events()) == watched.events


def test_a_watcher_that_goes_on_after_a_seq_sees_the_rest(watched: Watched) -> None:
    middle = len(watched.events) // 2
    assert list(watched.run.events(after_seq=middle)) == watched.events[middle:]


def test_the_runs_gauges_are_there_while_it_trains_and_gone_after(
    watched: Watched, server: object
) -> None:
    assert f'run="{watched.run.id}"' in watched.page
    assert 'metric="train_loss"' in watched.page
    assert "lab_run_step{" in watched.page

    assert watched.run.id not in scrape(server.http_url)  # type: ignore[attr-defined]


def test_the_history_has_every_step_once(watched: Watched) -> None:
    series = watched.run.history()["train_loss"]
    streamed = scalars(watched.events)

    assert list(series.steps) == list(range(1, NUM_STEPS + 1))
    assert list(series.values) == [streamed["train_loss", step] for step in series.steps]


def test_two_runs_train_at_once_on_two_slots(client: lab_client.Client) -> None:
    slots = client.server_info().slots
    assert len(slots) >= 2, "the tests' server has two slots"
    # far more epochs than they get: both train until they are stopped
    runs = [client.create("mnist", {**CONFIGS, "epochs": 10_000, "seed": seed}) for seed in (1, 2)]
    seen: dict[str, list[Event]] = {run.id: [] for run in runs}
    trains = {run.id: threading.Event() for run in runs}

    def watch(run: lab_client.Run) -> None:
        for event in run.events():
            seen[run.id].append(event)
            if isinstance(event.body, Metrics):
                trains[run.id].set()

    threads = [threading.Thread(target=watch, args=(run.start(),)) for run in runs]
    for thread in threads:
        thread.start()
    for is_training in trains.values():
        assert is_training.wait(60)
    infos = [run.refresh() for run in runs]
    for run in runs:
        run.stop(checkpoint=False)
    for thread in threads:
        thread.join(timeout=120)

    assert [info.state for info in infos] == ["RUNNING", "RUNNING"]
    assert len({info.slot for info in infos}) == 2
    assert [run.wait().state for run in runs] == ["STOPPED", "STOPPED"]
    for run in runs:
        assert [event.seq for event in seen[run.id]] == list(range(1, len(seen[run.id]) + 1))


BAD_CONFIGS = {
    "an unknown config": ({"batch_sizes": 3}, "batch_size"),
    "a wrong type": ({"epochs": "three"}, "epochs"),
    "an unknown option": ({"optimizer": "sgd_optimiser"}, "sgd_optimizer"),
    "kernels that leave nothing of the image": ({"conv1_kernal": 11, "conv2_kernal": 11}, "kernal"),
    "negative epochs": ({"epochs": -1}, "at least 0"),
    "epochs whose steps no number counts": ({"epochs": 2**63 - 1}, "at most 1000000000"),
    "a batch size of 0": ({"batch_size": 0}, "at least 1"),
}


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_bad_configs_are_refused_with_a_sentence_that_helps(
    client: lab_client.Client, case: str
) -> None:
    overrides, hint = BAD_CONFIGS[case]
    with pytest.raises(lab_client.ConfigError) as refused:
        client.create("mnist", overrides)  # type: ignore[arg-type]
    assert hint in str(refused.value)


def test_all_that_is_wrong_with_a_message_is_said_at_once(client: lab_client.Client) -> None:
    with pytest.raises(lab_client.ConfigError) as refused:
        client.plan("mnist", {"epochs": -1, "learning_rat": 0.1, "batch_size": "many"})
    assert {violation.key for violation in refused.value.violations} == {
        "epochs",
        "learning_rat",
        "batch_size",
    }


def test_an_unknown_experiment_is_told_with_the_known_ones(client: lab_client.Client) -> None:
    with pytest.raises(lab_client.ExperimentNotFound, match="mnist"):
        client.create("minst")


def test_an_unknown_run_is_told(client: lab_client.Client) -> None:
    with pytest.raises(lab_client.RunNotFound):
        client.get("20200101-000000-nothing")


def test_a_run_cannot_be_started_twice(watched: Watched) -> None:
    with pytest.raises(lab_client.InvalidState):
        watched.run.start()


def test_a_finished_run_cannot_be_stopped(watched: Watched) -> None:
    with pytest.raises(lab_client.InvalidState):
        watched.run.stop()


def test_an_experiment_that_raises_fails_with_its_traceback_and_the_server_goes_on(
    client: lab_client.Client,
) -> None:
    run = client.create("raises").start()
    events = list(run.events())

    last = events[-1].body
    assert isinstance(last, StateChange)
    assert last.state == "FAILED"
    assert "ZeroDivisionError" in last.traceback
    assert "ZeroDivisionError" in (Path(run.refresh().folder) / "log.txt").read_text()
    assert client.experiments()

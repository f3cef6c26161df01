"""Searches on a real server: a trial that was paused is the one that was not, and whose turn a slot is."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab_client import (
    Client,
    Halving,
    RunNotFound,
    RunState,
    Search,
    Trial,
    TrialState,
    choice,
    log_uniform,
)
from lab_client.events import StateChange
from tests.servers import RealServer, start_server

pytestmark = pytest.mark.slow
MNIST = {"learning_rate": log_uniform(1e-3, 1e-1), "dataset": "mnist_5k", "epochs": 1}


@pytest.fixture(scope="module")
def client(server: RealServer) -> Iterator[Client]:
    with Client(server.address, timeout_s=120) as client:
        yield client


def measured(client: Client, trial: Trial) -> dict[str, dict[int, float]]:
    """Return all that a trial's log has of each metric, by step; a step that comes again is as it was."""
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for batch in client.run(trial.run_id).batches():
        for point in batch.metrics.points() if batch.metrics else ():
            for name, value in point.values.items():
                if not name.startswith("system."):  # what it used of the machine
                    assert found[name].setdefault(point.step, value) == value
    return dict(found)


def weights(client: Client, trial: Trial, folder: Path) -> str:
    """Return a hash of a trial's trained model."""
    file = client.run(trial.run_id).download_model("model", folder / trial.run_id)
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_the_log_of_a_promoted_trial_is_that_of_the_trial_that_was_never_paused(
    client: Client, tmp_path: Path
) -> None:
    def search(halving: Halving | None) -> Search:
        arguments = {"minimize": "train_loss", "max_trials": 2, "sampler": "random", "seed": 5}
        study = client.search("mnist", MNIST, parallel=2, halving=halving, **arguments)  # type: ignore[arg-type]
        study.wait(300, check=True)
        return study

    halved, whole = search(Halving(40, 2)), search(None)
    promoted = halved.best
    assert promoted is not None
    assert promoted.state is TrialState.COMPLETED
    assert client.get(promoted.run_id).attempt == 2
    unpaused = whole.trials()[promoted.number]
    assert client.get(unpaused.run_id).attempt == 1
    assert (promoted.params, promoted.seed) == (unpaused.params, unpaused.seed)
    found = measured(client, promoted)
    assert len(found) > 2
    assert found == measured(client, unpaused)
    assert weights(client, promoted, tmp_path) == weights(client, unpaused, tmp_path)
    # another trial is another run
    other = whole.trials()[1 - promoted.number]
    assert found != measured(client, other)
    assert weights(client, promoted, tmp_path) != weights(client, other, tmp_path)


def became(client: Client, run_id: str, state: RunState) -> int:
    """Return when a run came into a state, in Unix time in nanoseconds; waits for it."""
    return next(
        event.time_unix_ns
        for event in client.run(run_id).events()
        if isinstance(event.body, StateChange) and event.body.state is state
    )


def until_two_wait(client: Client, study: Search) -> None:
    """Return when the slots are taken, and trials wait."""
    for entry in study.watch():
        if entry.kind == "started" and entry.trial is not None and entry.trial >= 3:
            break
    for trial in study.trials()[:2]:
        became(client, trial.run_id, RunState.RUNNING)


def test_what_a_person_starts_gets_the_next_slot_before_all_waiting_trials(
    client: Client,
) -> None:
    space = {"steps": choice(*range(60, 66)), "step_s": 0.02}
    study = client.search("counting", space, minimize="loss", parallel=5, seed=1)
    until_two_wait(client, study)
    own = client.create("counting", {"steps": 1}).start()
    waiting = [
        run.id
        for run in client.runs(experiment="counting", states=["queued"])
        if run.info.trial and run.info.trial.search_id == study.id
    ]
    assert waiting
    own.wait(120, check=True)
    study.wait(120, check=True)
    assert all(
        became(client, own.id, RunState.STARTING) < became(client, run_id, RunState.STARTING)
        for run_id in waiting
    )


def test_a_search_of_few_trials_at_a_time_gets_as_many_slots_as_one_of_many(
    client: Client,
) -> None:
    def search(num: int, parallel: int) -> Search:
        space = {"steps": choice(*range(20, 20 + num)), "step_s": 0.02}
        return client.search("counting", space, minimize="loss", parallel=parallel, seed=1)

    many = search(16, 8)
    until_two_wait(client, many)
    few = search(4, 2)
    few.wait(120, check=True)
    many.wait(120, check=True)
    begun_few = [became(client, trial.run_id, RunState.STARTING) for trial in few.trials()]
    begun_many = [became(client, trial.run_id, RunState.STARTING) for trial in many.trials()]
    asked = became(client, few.trials()[0].run_id, RunState.QUEUED)
    # one by one, and a slot's worth more or less at both ends; six were waiting before the first of the few
    assert sum(asked < at < max(begun_few) for at in begun_many) <= 6


def until_deleted(client: Client, run_id: str) -> None:
    """Return when there is no run of this id any more."""
    with contextlib.suppress(RunNotFound):
        while client.get(run_id):
            time.sleep(0.02)


def test_trials_of_a_search_outlive_the_runs_that_expire_until_it_has_ended(tmp_path: Path) -> None:
    experiments = ("--experiments", str(Path(__file__).parents[1] / "experiments.py"))
    server = start_server(tmp_path / "home", "--slots", "cpu:2", *experiments)
    try:
        with Client(server.address) as client:
            space = {"steps": choice(50_000, 50_001, 50_002), "step_s": 0.01}
            halving = Halving(2, 3)
            study = client.search("counting", space, minimize="loss", halving=halving, seed=1)
            next(entry for entry in study.watch() if entry.kind == "promoted")
            trials = study.trials()
            old = client.create("counting", {"steps": 1}).start()
            old.wait(120, check=True)
    finally:
        server.stop()
    expire = ("--retention-days", "0.0000001")
    server = start_server(tmp_path / "home", "--slots", "cpu:2", *experiments, *expire)
    try:
        with Client(server.address) as client:
            until_deleted(client, old.id)  # it ended last, so it goes last
            states = [client.get(trial.run_id).state for trial in trials]
            assert states[1:] == [RunState.STOPPED] * 2
            next(client.searches()).stop()
    finally:
        server.stop()

"""Forks against a real server: they train as their own configs say, or are refused before they do."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from lab_client import Client, Run, RunState, errors
from lab_client.cli.app import app
from lab_client.runs import RunParent
from tests.servers import RealServer

pytestmark = pytest.mark.slow

TIMEOUT_S = 240
STEPS = 63  # of an epoch: 4,000 digits in batches of 64


@pytest.fixture(scope="module")
def client(server: RealServer) -> Iterator[Client]:
    with Client(server.address, timeout_s=120) as client:
        yield client


@pytest.fixture(scope="module")
def parent(client: Client) -> Run:
    configs = {
        "dataset": "mnist_5k",
        "epochs": 1,
        "is_log_parameters": False,
        "checkpoint_interval": 31,
        "is_save_models": True,
    }
    run = client.create("mnist", configs).start()
    assert run.wait(TIMEOUT_S, check=True).step == STEPS
    return run


def trained(run: Run) -> Run:
    run.wait(TIMEOUT_S, check=True)
    return run


def losses(run: Run) -> dict[int, float]:
    series = run.history("train_loss")["train_loss"]
    return dict(zip(series.steps, series.values, strict=True))


def test_a_fork_with_no_change_measures_what_its_parent_did(parent: Run) -> None:
    same = losses(trained(parent.fork(31)))
    assert list(same) == list(range(32, STEPS + 1))
    assert same == {step: loss for step, loss in losses(parent).items() if step > 31}


def test_what_a_fork_changes_changes_its_training(parent: Run) -> None:
    changes = [{"learning_rate": 0.5}, {"learning_rate": 1e-6}, {"momentum": 0.0}]
    measured = [losses(parent)]
    measured += [losses(trained(parent.fork(31, change))) for change in changes]
    ends = {round(loss[STEPS], 6) for loss in measured}
    assert len(ends) == len(measured), "each ends elsewhere"


@pytest.mark.parametrize(
    ("change", "key", "sentence"),
    [
        ({"optimizer": "adam_optimizer"}, "optimizer", "it was a SGD then and is a Adam now"),
        ({"conv1_kernal": 3}, "conv1_kernal", "conv1.weight was [20, 1, 5, 5] then and is"),
        ({"epochs": 0}, "epochs", "the checkpoint is at step 31, the run ends at step 0: nothing"),
    ],
)
def test_what_a_fork_cannot_go_on_with_is_refused_before_it_is_queued(
    client: Client, parent: Run, change: dict[str, object], key: str, sentence: str
) -> None:
    before = len(list(client.runs()))
    for ask in (parent.fork, parent.plan_fork):
        with pytest.raises(errors.ConfigError) as caught:
            ask(31, change)
        (violation,) = caught.value.violations
        assert violation.key == key
        assert sentence in violation.message
    assert len(list(client.runs())) == before, "no run was made"


def test_a_finished_run_is_forked_by_more_epochs(parent: Run) -> None:
    with pytest.raises(errors.ConfigError, match=r"step 63, the run ends at step 63: nothing"):
        parent.fork()
    plan = parent.plan_fork(more_epochs=1)
    assert (plan.start_step, plan.total_steps) == (STEPS, 2 * STEPS)
    info = parent.fork(more_epochs=1).wait(TIMEOUT_S, check=True)
    assert (info.step, info.total_steps) == (2 * STEPS, 2 * STEPS)
    assert info.overrides["epochs"] == 2
    with pytest.raises(errors.InvalidRequest, match="the total"):
        parent.fork(overrides={"epochs": 3}, more_epochs=1)


def test_a_fork_with_other_batches_ends_at_its_total(parent: Run) -> None:
    plan = parent.plan_fork(31, {"batch_size": 100})
    assert plan.total_steps == 40
    info = parent.fork(31, {"batch_size": 100}).wait(TIMEOUT_S, check=True)
    assert (info.step, info.total_steps) == (40, 40)


def test_a_plan_of_a_fork_names_a_checkpoint_that_is_not_there(client: Client, parent: Run) -> None:
    configs = dict(parent.info.overrides)
    with pytest.raises(
        errors.CheckpointNotFound, match=r"^there is no checkpoint of step 5; it has"
    ):
        client.plan("mnist", configs, parent=RunParent(parent.id, 5))


def test_the_command_plans_and_extends_forks(server: RealServer, parent: Run) -> None:
    def lab(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["--server", server.address, *arguments])
        assert done.exit_code == 0, done.output
        return done.stdout

    said = lab("fork", parent.id, "--more-epochs", "2", "--plan")
    assert said == "the checkpoint is at step 63, the run ends at step 189\n"
    plan = json.loads(lab("fork", parent.id, "epochs=2", "--plan", "--json"))
    assert plan["total_steps"] == 126


def test_a_fork_goes_on_after_its_own_stop(client: Client, parent: Run) -> None:
    run = parent.fork(31, {"learning_rate": 0.2})
    whole = losses(trained(run))
    stopped = parent.fork(31, {"learning_rate": 0.2}, start=False)
    stopped.start()
    for point in stopped.metrics("train_loss"):
        if point.step >= 40:
            break
    if stopped.stop().wait(TIMEOUT_S).state is RunState.STOPPED:
        stopped.resume().wait(TIMEOUT_S, check=True)
    assert losses(stopped) == whole

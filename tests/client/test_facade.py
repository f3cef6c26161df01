"""lab's experiment module, remotely."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from lab_client import RunState, errors, experiment
from tests.client.twin import Twin


@pytest.fixture(autouse=True)
def connected(twin: Twin) -> Iterator[None]:
    client = experiment.connect(twin.address)
    experiment._drafts.draft = None
    yield
    client.close()


def test_the_tutorials_run_works_remotely(twin: Twin) -> None:
    experiment.create(name="mnist_tuning", writers={"sqlite", "tensorboard"}, tags=["grid"])
    plan = experiment.calculate_configs("mnist", {"conv1_kernal": 3}, ["set_seed", "main"])
    assert plan["conv1_kernal"].value == 3
    experiment.add_pytorch_models({"model": None})
    experiment.add_pytorch_models({"model2"})
    run = experiment.start()
    info = run.info
    assert (info.name, info.tags, info.state) == ("mnist_tuning", ("grid",), RunState.QUEUED)
    assert info.overrides == {"conv1_kernal": 3}
    assert info.run_order == (("set_seed",), ("main",))
    assert info.models == ("model", "model2")
    assert info.options.writers == ("sqlite", "tensorboard")


def test_each_run_of_a_grid_starts_fresh(twin: Twin) -> None:
    for kernel in (3, 5):
        experiment.create(name=f"k{kernel}")
        experiment.calculate_configs("mnist", {"conv1_kernal": kernel})
        experiment.start()
    configs = [run.message.config.overrides["conv1_kernal"].int_value for run in twin.runs.values()]
    assert configs == [3, 5]


def test_what_is_missing_is_told() -> None:
    with pytest.raises(errors.InvalidState, match=r"experiment\.create"):
        experiment.start()
    experiment.create()
    with pytest.raises(errors.InvalidState, match="calculate_configs"):
        experiment.start()
    experiment.calculate_configs("mnist")
    experiment.start()
    with pytest.raises(errors.InvalidState, match="create"):
        experiment.start()


def test_wrong_configs_are_refused_before_anything_is_created(twin: Twin) -> None:
    experiment.create()
    with pytest.raises(errors.ConfigError):
        experiment.calculate_configs("mnist", {"epoch": 1})
    assert not twin.runs


def test_what_was_planned_before_is_not_trained_after_a_refusal(twin: Twin) -> None:
    experiment.create()
    experiment.calculate_configs("mnist", {"epochs": 1})
    with pytest.raises(errors.ConfigError):
        experiment.calculate_configs("mnist", {"epoch": 2})
    with pytest.raises(errors.InvalidState, match="calculate_configs"):
        experiment.start()
    assert not twin.runs
    experiment.calculate_configs("mnist", {"epochs": 2})
    assert experiment.start().info.overrides == {"epochs": 2}


def test_threads_describe_their_own_runs(twin: Twin) -> None:
    barrier = threading.Barrier(3)

    def train(kernel: int) -> None:
        experiment.create(name=f"k{kernel}")
        barrier.wait()
        experiment.calculate_configs("mnist", {"conv1_kernal": kernel})
        barrier.wait()
        experiment.start()

    threads = [threading.Thread(target=train, args=[kernel]) for kernel in (3, 5, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    runs = {
        run.message.name: run.message.config.overrides["conv1_kernal"].int_value
        for run in twin.runs.values()
    }
    assert runs == {"k3": 3, "k5": 5, "k7": 7}

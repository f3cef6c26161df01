"""Runs as labml's scripts begin them: record, configs, and evaluate, which records nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from lab_core import experiment, loop, tracker
from lab_core.configs import BaseConfigs
from lab_core.errors import CheckpointError, ConfigError, LabError


class Configs(BaseConfigs):
    """A model that is trained by adding one."""

    epochs: int = 2
    model: nn.Linear

    def run(self) -> None:
        for _ in loop.loop(self.epochs):
            with torch.no_grad():
                self.model.weight += 1


@Configs.calc(Configs.model)
def linear() -> nn.Linear:
    return nn.Linear(2, 1)


@pytest.fixture(autouse=True)
def fresh(home: Path) -> None:
    torch.manual_seed(3)


def trained() -> tuple[str, torch.Tensor]:
    """Return a run with a checkpoint taken within its loop, and the weights there."""
    made = experiment.create(name="one", writers=set(), console=False, checkpoint_interval=1)
    conf = experiment.configs(Configs(), {"epochs": 3}, ["model"])
    with experiment.start():
        conf.run()
    return made.run_id, conf.model.weight.detach().clone()


def folders(home: Path) -> list[Path]:
    return sorted((home / "runs").glob("*/*"))


def test_a_recorded_run_is_created_and_started() -> None:
    with experiment.record(name="one", writers=set(), console=False, exp_conf={"rate": 0.5}) as run:
        assert experiment.current() is run
        tracker.save(1, loss=run.conf.rate)  # type: ignore[union-attr]
    assert run.record.status == "completed"
    assert (run.folder / "configs.yaml").exists()


def test_wrong_configs_of_a_recorded_run_leave_no_folder(home: Path) -> None:
    configs = Configs()
    with pytest.raises(ConfigError):
        experiment.configs(configs, {"epoch": 1})
    configs.model = None  # type: ignore[assignment]
    with pytest.raises(ConfigError, match="model"):
        experiment.record(name="one", writers=set(), console=False, exp_conf=configs)
    assert folders(home) == []


def test_an_evaluation_has_the_weights_of_a_checkpoint_and_leaves_nothing(home: Path) -> None:
    run_id, weight = trained()
    before = folders(home)
    experiment.evaluate(name="one", console=False)
    conf = experiment.configs(Configs(), {}, [])
    experiment.load(run_id)
    with experiment.start() as evaluation:
        assert torch.equal(conf.model.weight, weight)
        assert loop.get_global_step() == 3
        tracker.save(accuracy=0.5)
        with pytest.raises(LabError, match="records nothing"):
            experiment.save_checkpoint()
        with pytest.raises(LabError, match="records nothing"):
            experiment.save_numpy("weight", weight.numpy())
        with pytest.raises(LabError, match="records nothing"):
            experiment.save_artifact("note.txt", b"text")
    assert folders(home) == before
    assert not evaluation.folder.exists()
    assert tracker.last_values() == {"accuracy": 0.5}


def test_an_evaluation_without_configs_takes_the_models_added() -> None:
    run_id, weight = trained()
    experiment.evaluate(name="one", console=False)
    model = nn.Linear(2, 1)
    experiment.add_pytorch_models({"model": model})
    experiment.load(run_id, 2)
    with experiment.start():
        torch.testing.assert_close(model.weight, weight - 1)


def test_an_evaluation_of_nothing_that_was_saved_is_an_error() -> None:
    run_id, _ = trained()
    experiment.evaluate(name="one", console=False)
    experiment.add_pytorch_models({"network": nn.Linear(2, 1)})
    experiment.load(run_id)
    with pytest.raises(
        CheckpointError, match=r"nothing that the checkpoint of step 3 has .* model"
    ):
        experiment.start()


def test_a_model_of_another_size_is_an_error() -> None:
    run_id, _ = trained()
    experiment.evaluate(name="one", console=False)
    experiment.add_pytorch_models({"model": nn.Linear(5, 1)})
    experiment.load(run_id)
    with pytest.raises(CheckpointError, match=r"weight was \[1, 2\] then and is \[1, 5\] now"):
        experiment.start()

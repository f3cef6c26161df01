"""The checkpoint with which a run ends: there once, of the end, and one to go on from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lab_core import loop
from lab_core.checkpoints import list_checkpoints
from lab_core.configs import BaseConfigs
from lab_core.experiment import Experiment
from tests.core.checkpoints.tiny import NUM_STEPS, STEPS_PER_EPOCH, Configs, make, scalars, state

ONCE_MORE = {"loop_count": NUM_STEPS + STEPS_PER_EPOCH}


def steps(experiment: Experiment) -> list[int]:
    return [checkpoint.step for checkpoint in list_checkpoints(experiment.checkpoints_folder)]


def train(folder: Path, run_id: str, **options: object) -> tuple[Experiment, Configs]:
    experiment, conf = make(folder, run_id, **options)  # type: ignore[arg-type]
    with experiment.start():
        conf.main()
        experiment.save_final_checkpoint()  # as the service does, for runs without a loop
    return experiment, conf


def test_a_run_ends_with_a_checkpoint_only_if_it_is_to(tmp_path: Path) -> None:
    experiment, conf = make(tmp_path, "without")
    with experiment.start():
        conf.main()
    assert steps(experiment) == []

    saved: list[int] = []
    experiment, conf = make(tmp_path, "with", is_saved_at_end=True)
    experiment.on_checkpoint(lambda step, _: saved.append(step))
    with experiment.start():
        conf.main()
        assert experiment.save_final_checkpoint() is None  # it is there already
    assert steps(experiment) == saved == [NUM_STEPS]
    weights = torch.load(
        experiment.checkpoints_folder / str(NUM_STEPS) / "model.pt", weights_only=True
    )
    assert {name: value.tolist() for name, value in weights.items()} == state(conf)["model"]


def test_what_a_loop_has_saved_at_its_end_is_not_saved_twice(tmp_path: Path) -> None:
    saved: list[int] = []
    experiment, conf = make(tmp_path, "run", {"is_save_models": True}, is_saved_at_end=True)
    experiment.on_checkpoint(lambda step, _: saved.append(step))
    with experiment.start():
        conf.main()
    assert saved == [STEPS_PER_EPOCH, 2 * STEPS_PER_EPOCH, NUM_STEPS]


def test_the_final_checkpoint_goes_on_as_if_it_had_not_ended(tmp_path: Path) -> None:
    train(tmp_path, "short", is_saved_at_end=True)
    whole, whole_conf = train(tmp_path, "whole", overrides=ONCE_MORE, is_saved_at_end=True)

    fork, conf = make(tmp_path, "fork", ONCE_MORE, is_saved_at_end=True)
    fork.load_from(tmp_path / "short" / "checkpoints", NUM_STEPS)
    with fork.start():
        conf.main()

    assert state(conf) == state(whole_conf)
    assert scalars(fork) == [row for row in scalars(whole) if row[1] > NUM_STEPS]
    assert steps(fork)[-1] == NUM_STEPS + STEPS_PER_EPOCH


def test_a_loop_that_ends_early_is_saved_where_it_ended(tmp_path: Path) -> None:
    experiment, conf = make(tmp_path, "early", is_saved_at_end=True)
    conf.main.after_epoch = lambda step: loop.finish_loop()
    with experiment.start():
        conf.main()
        assert steps(experiment) == []
        experiment.save_final_checkpoint()
    assert steps(experiment) == [STEPS_PER_EPOCH]


def test_a_run_without_models_has_nothing_to_save(tmp_path: Path) -> None:
    class Counting(BaseConfigs):
        def run(self) -> None:
            for _ in loop.loop(3):
                pass

    experiment = Experiment(
        "counting", writers=(), folder=tmp_path, console=False, is_saved_at_end=True
    )
    conf = experiment.calculate_configs(Counting())
    with experiment.start():
        conf.run()
        assert experiment.save_final_checkpoint() is None
    assert steps(experiment) == []


def test_a_final_checkpoint_that_cannot_be_written_ends_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment, conf = make(tmp_path, "full", is_saved_at_end=True)
    experiment.folder.mkdir()
    (experiment.folder / "checkpoints").write_text("in the way")
    with experiment.start():
        conf.main()
    assert experiment.record.status == "completed"

"""A run stopped anywhere and resumed is bit for bit the run that nobody stopped."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from lab_core import experiment as lab_experiment
from lab_core import loop
from lab_core.errors import CheckpointError

from . import tiny

VARIANTS = {
    "resident, SGD": {},
    "data loader, SGD": {"train_loader": "data_loader"},
    "resident, Adam": {"optimizer": "adam"},
}
# an epoch's first and last step, and the run's, are where it may go wrong; and some at random
RANDOM_STEPS = random.Random(20261123).sample(range(1, tiny.NUM_STEPS), 5)
STEPS = sorted({1, 6, 7, 8, 14, 20, 21, *RANDOM_STEPS})


class Twin:
    """The run that nobody stopped."""

    def __init__(self, folder: Path, overrides: dict[str, Any]) -> None:
        experiment, conf = tiny.make(folder, "undisturbed", overrides)
        with experiment.start():
            conf.main()
        self.state = tiny.state(conf)
        self.scalars = tiny.scalars(experiment)
        self.seen = conf.main.seen


@pytest.fixture(scope="module", params=VARIANTS)
def twin(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Twin, dict[str, Any]]:
    overrides = VARIANTS[request.param]
    return Twin(tmp_path_factory.mktemp("twin"), overrides), overrides


def stop_after(step: int) -> Any:
    return lambda at: loop.request_stop() if at == step else None


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_a_run_stopped_after_any_step_goes_on_as_if_it_never_was(
    twin: tuple[Twin, dict[str, Any]], step: int, tmp_path: Path
) -> None:
    undisturbed, overrides = twin
    stopped, conf = tiny.make(tmp_path, "one", overrides)
    conf.main.after_step = stop_after(step)
    with stopped.start():
        conf.main()
    assert stopped.record.status == "stopped"
    assert loop.get_global_step() == step
    seen = conf.main.seen

    tiny.scramble()
    resumed, conf = tiny.make(tmp_path, "one", overrides)
    resumed.resume()
    with resumed.start():
        conf.main()

    assert resumed.record.status == "completed"
    assert resumed.record.start_step == step
    assert tiny.state(conf) == undisturbed.state
    assert {**seen, **conf.main.seen} == undisturbed.seen
    assert not set(seen) & set(conf.main.seen), "a batch was trained on twice"
    assert tiny.scalars(resumed) == undisturbed.scalars


@pytest.mark.slow
def test_a_run_stopped_many_times_ends_as_if_it_never_was(
    twin: tuple[Twin, dict[str, Any]], tmp_path: Path
) -> None:
    undisturbed, overrides = twin
    for step in (3, 4, 7, 12, 13, 14, 19, None):
        tiny.scramble()
        experiment, conf = tiny.make(tmp_path, "one", overrides)
        if step != 3:
            experiment.resume()
        if step is not None:
            conf.main.after_step = stop_after(step)
        with experiment.start():
            conf.main()
    assert tiny.state(conf) == undisturbed.state
    assert tiny.scalars(experiment) == undisturbed.scalars


def test_a_killed_run_goes_on_from_its_last_periodic_checkpoint(
    twin: tuple[Twin, dict[str, Any]], tmp_path: Path
) -> None:
    undisturbed, overrides = twin

    class PowerCut(BaseException):
        pass

    def cut(step: int) -> None:
        if step == 12:
            raise PowerCut

    killed, conf = tiny.make(tmp_path, "one", overrides, checkpoint_interval=5)
    conf.main.after_step = cut
    with pytest.raises(PowerCut), killed.start():
        conf.main()

    tiny.scramble()
    resumed, conf = tiny.make(tmp_path, "one", overrides, checkpoint_interval=5)
    resumed.resume()
    with resumed.start():
        conf.main()
    assert resumed.record.start_step == 10
    assert tiny.state(conf) == undisturbed.state
    assert tiny.scalars(resumed) == undisturbed.scalars


def test_a_checkpoint_between_epochs_is_taken_after_the_validation(
    twin: tuple[Twin, dict[str, Any]], tmp_path: Path
) -> None:
    undisturbed, overrides = twin
    first, conf = tiny.make(tmp_path, "one", overrides, checkpoint_interval=7, keep_last=None)
    with first.start():
        conf.main()

    tiny.scramble()
    resumed, conf = tiny.make(tmp_path, "two", overrides)
    resumed.load_from(first.checkpoints_folder, 7)
    with resumed.start():
        conf.main()
    assert tiny.state(conf) == undisturbed.state
    later = [row for row in undisturbed.scalars if row[1] > 7]
    assert tiny.scalars(resumed) == later, "the validation of step 7 belongs to the first run"


def test_checkpoints_of_one_step_are_the_same_however_they_were_reached(tmp_path: Path) -> None:
    runs = []
    for run_id, interval in (("a", 5), ("b", 1)):
        experiment, conf = tiny.make(tmp_path, run_id, checkpoint_interval=interval)
        conf.main.after_step = stop_after(11)
        with experiment.start():
            conf.main()
        runs.append(torch.load(experiment.checkpoints_folder / "11" / "model.pt"))
    assert all(torch.equal(runs[0][key], runs[1][key]) for key in runs[0])


def test_a_new_run_can_go_on_from_a_checkpoint_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    first, conf = tiny.make(tmp_path / "runs" / "tiny", "parent", checkpoint_interval=4)
    with first.start():
        conf.main()

    lab_experiment.create(name="tiny", writers={"sqlite"}, console=False)
    again = lab_experiment.calculate_configs(tiny.Configs(), {}, ["set_seed", "main"])
    lab_experiment.load("parent", checkpoint=16)
    with lab_experiment.start() as child:
        again.main()
    assert child.record.parent_run == "parent"
    assert child.record.start_step == 16
    assert tiny.state(again) == tiny.state(conf)


def test_a_model_that_is_only_computed_on_the_way_is_restored_on_arrival(tmp_path: Path) -> None:
    first, conf = tiny.make(tmp_path, "one")
    conf.main.after_step = stop_after(9)
    with first.start():
        conf.main()
    wanted = first.checkpoints_folder / "9"

    second, _ = tiny.make(tmp_path, "two")
    late = tiny.Configs()
    second.calculate_configs(late, {}, ["set_seed"])
    second.load_from(first.checkpoints_folder, 9)
    states = []

    def look(step: int) -> None:
        states.append(step)
        loop.request_stop(checkpoint=False)

    with second.start():
        late.main.after_step = look
        assert late.main.seen == {}
        late.main()
    assert states == [10]
    assert wanted.is_dir()


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    first, conf = tiny.make(tmp_path, "one")
    conf.main.after_step = stop_after(2)
    with first.start():
        conf.main()
    other, _ = tiny.make(tmp_path, "two", {"model": torch.nn.Linear(4, 1)})
    other._checkpointing.go_on_from(first.checkpoints_folder, None)
    with pytest.raises(CheckpointError, match="does not fit 'model'"):
        other.start()
    assert other.record.status == "failed"


@pytest.mark.parametrize("step", STEPS)
def test_a_run_paused_at_a_step_goes_on_as_if_it_never_was(
    twin: tuple[Twin, dict[str, Any]], step: int, tmp_path: Path
) -> None:
    undisturbed, overrides = twin
    paused, conf = tiny.make(tmp_path, "one", overrides)
    paused.loop.until_step = step
    with paused.start():
        conf.main()
    is_end = step == tiny.NUM_STEPS
    assert paused.record.status == ("completed" if is_end else "stopped")
    assert loop.get_global_step() == step
    # all that was measured at the step is there: also what an epoch that ends with it validates
    assert tiny.scalars(paused) == [row for row in undisturbed.scalars if row[1] <= step]
    if is_end:
        return

    tiny.scramble()
    resumed, conf = tiny.make(tmp_path, "one", overrides)
    resumed.resume()
    with resumed.start():
        conf.main()
    assert tiny.state(conf) == undisturbed.state
    assert tiny.scalars(resumed) == undisturbed.scalars

"""A fork: state from the checkpoint, options from its own configs, and what cannot be is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lab_core import loop
from lab_core.errors import CheckpointError
from lab_core.experiment import Experiment

from . import trainings
from .trainings import NUM_STEPS, RUN_ORDERS, SCHEDULERS, STEPS_PER_EPOCH, make, train

# a scheduler first read after the first step is one of the cases
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step"),
]

ORDER = RUN_ORDERS["all"]
AT = 2 * STEPS_PER_EPOCH + 3
OPTIMIZERS = {
    "sgd": {"learning_rate": 0.5, "momentum": 0.0, "weight_decay": 0.3},
    "adam": {"learning_rate": 0.5, "momentum": 0.1, "weight_decay": 0.3},
}


def parent(folder: Path, given: dict[str, Any], order: list[str] = ORDER) -> Path:
    """Train up to step AT with a checkpoint there, and return where the checkpoints are."""
    stop = {"after_step": lambda at: loop.request_stop() if at == AT else None}
    experiment, conf = make(folder / "parent", {**given, **stop}, order)
    train(experiment, conf)
    return experiment.checkpoints_folder


def fork(
    folder: Path, checkpoints: Path, given: dict[str, Any], order: list[str] = ORDER
) -> tuple[Experiment, trainings.Configs]:
    trainings.scramble()
    name = f"fork{len(list(folder.iterdir()))}"
    return make(folder / name, given, order, before=lambda run: run.load_from(checkpoints, AT))


def options(
    folder: Path, checkpoints: Path, given: dict[str, Any], order: list[str] = ORDER
) -> Any:
    """Return the options of a fork's optimizer and scheduler where its checkpoint was taken."""
    found: list[Any] = []

    def look(step: int) -> None:
        found.append(dict(conf.optimizer.param_groups[0]))
        found.append(dict(conf.scheduler.state_dict()))
        loop.request_stop(checkpoint=False)

    given = {**given, "after_step": look}
    experiment, conf = fork(folder, checkpoints, given, order)
    with experiment.start():
        conf.run()
    return found


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("order", RUN_ORDERS)
def test_a_fork_with_no_change_is_its_parent(optimizer: str, order: str, tmp_path: Path) -> None:
    given = {"optimizer": optimizer, "scheduler": "one_cycle"}
    trainings.scramble()
    whole = train(*make(tmp_path / "whole", given, RUN_ORDERS[order]))
    checkpoints = parent(tmp_path, given, RUN_ORDERS[order])
    assert train(*fork(tmp_path, checkpoints, given, RUN_ORDERS[order])) == whole


@pytest.mark.parametrize(
    ("optimizer", "key", "value"), [(o, k, v) for o in OPTIMIZERS for k, v in OPTIMIZERS[o].items()]
)
def test_a_fork_trains_with_what_its_own_configs_say(
    optimizer: str, key: str, value: float, tmp_path: Path
) -> None:
    given = {"optimizer": optimizer, "scheduler": "exponential"}
    checkpoints = parent(tmp_path, given)
    same = train(*fork(tmp_path, checkpoints, given))
    other = train(*fork(tmp_path, checkpoints, {**given, key: value}))
    assert other["model"] != same["model"]
    group = other["optimizer"]["param_groups"][0]
    if key == "learning_rate":
        # the schedule has multiplied it by gamma, at each step before the fork and after it
        assert group["lr"] == pytest.approx(0.5 * 0.8**NUM_STEPS)
        assert group["initial_lr"] == 0.5
    elif key == "momentum" and optimizer == "adam":
        assert group["betas"] == [0.1, 0.99]
    else:
        assert group[key] == value


@pytest.mark.parametrize("order", RUN_ORDERS)
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_fork_scales_what_a_schedule_has_done(scheduler: str, order: str, tmp_path: Path) -> None:
    given = {"scheduler": scheduler}
    checkpoints = parent(tmp_path, given, RUN_ORDERS[order])
    (same, same_schedule) = options(tmp_path, checkpoints, given, RUN_ORDERS[order])[:2]
    twice = {**given, "learning_rate": 0.04}
    (other, other_schedule) = options(tmp_path, checkpoints, twice, RUN_ORDERS[order])[:2]
    assert other["lr"] == pytest.approx(2 * same["lr"], rel=1e-6)
    if "initial_lr" in same:
        assert other["initial_lr"] == pytest.approx(2 * same["initial_lr"])
    if "base_lrs" in same_schedule:
        assert other_schedule["base_lrs"] == pytest.approx(
            [2 * rate for rate in same_schedule["base_lrs"]]
        )
    if "last_epoch" in same_schedule:
        assert other_schedule["last_epoch"] == same_schedule["last_epoch"] == AT + 1


def test_a_fork_takes_the_schedules_own_options_from_its_configs(tmp_path: Path) -> None:
    given = {"scheduler": "step"}
    checkpoints = parent(tmp_path, given)
    _, schedule = options(tmp_path, checkpoints, {**given, "gamma": 0.1})[:2]
    assert schedule["gamma"] == 0.1
    given = {"scheduler": "multi_step"}
    checkpoints = parent(tmp_path / "other", given)
    _, schedule = options(tmp_path, checkpoints, {**given, "warmup": 15})[:2]
    assert dict(schedule["milestones"]) == {15: 1, 12: 1}


def test_a_fork_of_a_fork_changes_what_its_own_parent_had(tmp_path: Path) -> None:
    given = {"scheduler": "constant", "learning_rate": 0.02}
    checkpoints = parent(tmp_path, given)
    stop = {"after_step": lambda at: loop.request_stop() if at == AT + 2 else None}
    child, conf = fork(tmp_path, checkpoints, {**given, **stop, "learning_rate": 0.2})
    train(child, conf)
    given["learning_rate"] = 0.1
    grandchild, conf = make(
        tmp_path / "grandchild",
        given,
        ORDER,
        before=lambda run: run.load_from(child.checkpoints_folder, AT + 2),
    )
    train(grandchild, conf)
    assert conf.optimizer.param_groups[0]["lr"] == pytest.approx(0.1)


def test_a_fork_with_another_seed_draws_other_numbers_from_its_checkpoint_on(
    tmp_path: Path,
) -> None:
    given = {"scheduler": "step"}
    checkpoints = parent(tmp_path, given)
    same = train(*fork(tmp_path, checkpoints, given))
    other = train(*fork(tmp_path, checkpoints, {**given, "seed": 6}))
    again = train(*fork(tmp_path, checkpoints, {**given, "seed": 6}))
    assert other == again
    assert other["model"] != same["model"]
    assert other["parts"] == same["parts"], "the data stay what the parent was trained on"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"optimizer": "adam"}, r"optimizer='adam' \(it was 'sgd'\).*SGD then and is a Adam now"),
        ({"scheduler": "cosine"}, "scheduler='cosine'.*StepLR then"),
        ({"hidden": 9}, r"hidden=9 \(it was 8\).*0.weight was \[8, 3\] then and is \[9, 3\] now"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_be_carried_over_is_refused_by_the_configs_name(
    change: dict[str, Any], named: str, tmp_path: Path
) -> None:
    checkpoints = parent(tmp_path, {"scheduler": "step"})
    experiment, _ = fork(tmp_path, checkpoints, {"scheduler": "step", **change})
    with pytest.raises(CheckpointError, match=named):
        experiment.start()
    assert experiment.record.status == "failed"


def test_an_option_that_needs_what_was_not_kept_is_refused(tmp_path: Path) -> None:
    given = {"scheduler": "step", "optimizer": "adam"}
    checkpoints = parent(tmp_path, given)
    experiment, _ = fork(tmp_path, checkpoints, {**given, "amsgrad": True})
    with pytest.raises(CheckpointError, match=r"amsgrad=True .*max_exp_avg_sq"):
        experiment.start()


def test_a_learning_rate_that_is_a_tensor_is_carried_over_too(tmp_path: Path) -> None:
    rate = torch.tensor(0.02)
    model = torch.nn.Linear(1, 1)

    def run(folder: str, rate: torch.Tensor, *, parent: Path | None) -> tuple[Experiment, Any]:
        optimizer = torch.optim.Adam(model.parameters(), lr=rate)
        experiment = Experiment("rates", writers=(), folder=tmp_path / folder, console=False)
        experiment.add_pytorch_models({"optimizer": optimizer})
        if parent is not None:
            experiment.load_from(parent, 3)
        with experiment.start():
            if parent is None:
                loop.set_global_step(3)
                optimizer.param_groups[0]["lr"] = rate / 2
                experiment.save_checkpoint()
        return experiment, optimizer

    first, _ = run("first", rate, parent=None)
    _, optimizer = run("second", torch.tensor(0.2), parent=first.checkpoints_folder)
    assert float(optimizer.param_groups[0]["lr"]) == pytest.approx(0.1)


def test_a_fork_with_other_batches_goes_on_within_the_epoch_and_ends_at_its_end(
    tmp_path: Path,
) -> None:
    checkpoints = parent(tmp_path, {"scheduler": "step"})
    ends: list[int] = []
    given = {
        "scheduler": "step",
        "batch_size": 4,
        "loop_step": 10,
        "loop_count": 35,
        "after_step": ends.append,
    }
    experiment, conf = fork(tmp_path, checkpoints, given)
    train(experiment, conf)
    # 24 of the epoch's 40 samples were given: 4 batches more, then epochs of 10 up to the end
    assert ends == list(range(AT + 1, 36))
    assert experiment.loop.step == experiment.loop.total_steps == 35


@pytest.mark.parametrize("total", [AT, 10])
def test_a_fork_with_nothing_left_to_train_is_refused(total: int, tmp_path: Path) -> None:
    checkpoints = parent(tmp_path, {"scheduler": "step"})
    experiment, conf = fork(tmp_path, checkpoints, {"scheduler": "step", "loop_count": total})
    with (
        pytest.raises(CheckpointError, match=rf"step 13, the run ends at step {total}: nothing"),
        experiment.start(),
    ):
        conf.run()
    assert experiment.record.status == "failed"

"""Each option of TrainValidConfigs: it does something, a resumed run is exact, and without it nothing changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lab_core.errors import CheckpointError

from .learning import BATCHES, EPOCHS, NUM_STEPS, Run, network, stop_at, train_data

OPTIONS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "bfloat16": {"precision": "mixed_bfloat16"},
    "float16": {"precision": "mixed_float16"},
    "accumulation": {"accumulate_batches": 3},
    "norm": {"clip_gradient_norm": 0.1},
    "value": {"clip_gradient_value": 0.01},
    "average": {"ema_decay": 0.9},
    "warm-up and cosine": {"schedule": "warmup_cosine", "final_share": 0.1},
    "one cycle": {"schedule": "one_cycle", "warmup_share": 0.3},
    "plateau": {
        "schedule": "plateau",
        "plateau_patience": 0,
        "plateau_factor": 0.5,
        "learning_rate": 2.0,
    },
    "early stopping": {"early_stopping_patience": 1, "early_stopping_min_delta": 10.0},
    "all": {
        "precision": "mixed_float16",
        "accumulate_batches": 3,
        "clip_gradient_norm": 1.0,
        "clip_gradient_value": 0.1,
        "ema_decay": 0.9,
        "schedule": "one_cycle",
        "early_stopping_patience": 2,
        "monitored_metric": "valid_accuracy",
        "optimizer": "adam_optimizer",
    },
}
# inside an epoch and, if they are accumulated, inside an update; after its last batch
STEPS = (BATCHES + 1, BATCHES + 3, 2 * BATCHES)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("undisturbed")
    return {name: Run(folder / name, given).train() for name, given in OPTIONS.items()}


@pytest.mark.slow
def test_by_default_it_is_the_plain_loop_to_the_last_bit(undisturbed: dict[str, Run]) -> None:
    torch.manual_seed(5)
    conf = undisturbed["nothing"].conf
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    loader = train_data(conf)
    losses = []
    for _ in range(EPOCHS):
        model.train()
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs), targets)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert undisturbed["nothing"].weights() == [
        tensor.flatten().tolist() for tensor in model.state_dict().values()
    ]
    scalars = undisturbed["nothing"].scalars()
    assert [value for _, value in scalars["train_loss"]] == losses
    assert {name for name in scalars if not name.startswith("model.")} == {
        "train_loss",
        "valid_loss",
        "valid_accuracy",
    }


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "nothing"])
def test_each_option_makes_a_difference(name: str, undisturbed: dict[str, Run]) -> None:
    changed, plain = undisturbed[name], undisturbed["nothing"]
    if name == "average":  # validated are the averaged weights
        assert changed.weights() == plain.weights()
        assert changed.scalars()["valid_loss"] != plain.scalars()["valid_loss"]
    else:
        assert changed.weights() != plain.weights()


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("name", OPTIONS)
def test_a_resumed_run_is_the_one_that_nobody_stopped(
    name: str, step: int, undisturbed: dict[str, Run], tmp_path: Path
) -> None:
    stopped = Run(tmp_path, {**OPTIONS[name], **stop_at(step)}).train()
    assert stopped.experiment.record.status == "stopped"
    assert stopped.experiment.loop.step == step
    resumed = Run(tmp_path, OPTIONS[name], is_resume=True).train()
    whole = undisturbed[name]
    assert resumed.weights() == whole.weights()
    # the means of the histograms of weights and gradients are among them
    assert sorted(points(stopped) + points(resumed)) == sorted(points(whole))


def points(run: Run) -> list[tuple[str, int, str]]:
    return [(name, step, repr(v)) for name, all_ in run.scalars().items() for step, v in all_]


FORK_AT = 2 * BATCHES + 3


@pytest.fixture(scope="module")
def parents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("parents")
    return {
        name: Run(folder / name, {**given, **stop_at(FORK_AT)}).train()
        for name, given in OPTIONS.items()
        if name != "early stopping"  # it ends before
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["bfloat16", "float16", "accumulation", "norm", "average", "early stopping", "plateau"]
)
def test_an_option_is_turned_on_in_a_fork(
    name: str, parents: dict[str, Run], tmp_path: Path
) -> None:
    fork = Run(tmp_path, OPTIONS[name], parent=(parents["nothing"], FORK_AT)).train()
    assert fork.experiment.loop.step == NUM_STEPS


def test_an_average_that_begins_in_a_fork_begins_with_the_checkpoints_weights(
    parents: dict[str, Run], undisturbed: dict[str, Run], tmp_path: Path
) -> None:
    given = {"ema_decay": 1e-9, **stop_at(FORK_AT + 1)}
    fork = Run(tmp_path, given, parent=(parents["nothing"], FORK_AT)).train()
    assert fork.conf.averaged_model is not None
    averaged = fork.conf.averaged_model.module.state_dict()
    for name, tensor in fork.conf.model.state_dict().items():
        torch.testing.assert_close(averaged[name], tensor, msg=name)


@pytest.mark.parametrize("name", ["bfloat16", "float16", "accumulation", "norm", "average"])
def test_an_option_is_turned_off_in_a_fork(
    name: str, parents: dict[str, Run], tmp_path: Path
) -> None:
    fork = Run(tmp_path, {}, parent=(parents[name], FORK_AT)).train()
    assert fork.experiment.record.status == "completed"
    assert "learning_rate" not in fork.scalars()


@pytest.mark.parametrize("name", ["warm-up and cosine", "one cycle", "plateau"])
def test_a_schedule_cannot_be_turned_off_in_a_fork(
    name: str, parents: dict[str, Run], tmp_path: Path
) -> None:
    fork = Run(tmp_path, {}, parent=(parents[name], FORK_AT))
    said = rf"schedule='constant' \(it was '{OPTIONS[name]['schedule']}'\) .* state would be lost"
    with pytest.raises(CheckpointError, match=said):
        fork.train()


@pytest.mark.parametrize("name", ["warm-up and cosine", "one cycle"])
def test_a_fork_has_the_schedule_of_its_own_learning_rate_and_epochs(
    name: str, parents: dict[str, Run], tmp_path: Path
) -> None:
    given = {**OPTIONS[name], "learning_rate": 0.3, "epochs": EPOCHS + 2}
    anew = Run(tmp_path / "anew", given).train().scalars(after=FORK_AT)["learning_rate"]
    fork = Run(tmp_path / "fork", given, parent=(parents[name], FORK_AT)).train()
    rates = fork.scalars()["learning_rate"]
    assert [step for step, _ in rates] == [step for step, _ in anew]
    # the first one is what the old schedule had made of it, in proportion
    assert [rate for _, rate in rates[1:]] == pytest.approx([rate for _, rate in anew[1:]])

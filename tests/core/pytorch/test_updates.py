"""What updates, schedules and early stopping compute, compared with the formulas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lab_core import tracker
from lab_core.configs import calculate
from lab_core.errors import ConfigError
from lab_core.helpers.pytorch.early_stopping import EarlyStopping
from lab_core.helpers.pytorch.schedule import ScheduleConfigs, warmup_cosine_factor
from lab_core.helpers.pytorch.updates import AccumulatedUpdates, UpdateConfigs

from .learning import BATCHES, Configs, Run

BATCH_SIZE = 4


@pytest.fixture(autouse=True)
def fresh_tracker() -> None:
    tracker.set_current(None)


def loss_of(model: nn.Module, batch: int) -> Tensor:
    inputs = torch.arange(batch, batch + BATCH_SIZE * 3.0).view(BATCH_SIZE, 3)
    loss: Tensor = model(inputs).square().mean()
    return loss


def train(num_batches: int, *, lr: float = 1e-3, **overrides: Any) -> tuple[nn.Module, Any]:
    """Return a linear model after an epoch of so many batches, and the configs."""
    torch.manual_seed(1)
    model = nn.Linear(3, 1)
    given = {
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=lr),
        "device": torch.device("cpu"),
        "num_updates": num_batches,
        **overrides,
    }
    conf = calculate(UpdateConfigs, given)
    for batch in range(num_batches):
        conf.updates.begin(num_batches - batch)
        with conf.precision.autocast():
            loss = loss_of(model, batch)
        conf.updates.add(loss)
    conf.updates.finish()
    return model, conf


def weights(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.slow
def test_accumulated_gradients_are_the_mean_of_their_batches() -> None:
    accumulated, _ = train(7, accumulate_batches=3)
    torch.manual_seed(1)
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for batches in ((0, 1, 2), (3, 4, 5), (6,)):
        optimizer.zero_grad()
        torch.stack([loss_of(model, batch) for batch in batches]).mean().backward()
        optimizer.step()
    torch.testing.assert_close(weights(accumulated), weights(model))


def test_an_epoch_that_is_shorter_than_announced_ends_with_an_update() -> None:
    model, conf = train(0, accumulate_batches=4)
    before = weights(model)
    conf.updates.begin(9)
    conf.updates.add(loss_of(model, 0))
    assert torch.equal(weights(model), before)
    conf.updates.finish()
    assert not torch.equal(weights(model), before)


def test_waiting_gradients_are_a_state() -> None:
    model, conf = train(0, accumulate_batches=4)
    assert isinstance(conf.updates, AccumulatedUpdates)
    assert conf.updates.state_dict()["gradients"] == []
    conf.updates.begin(9)
    conf.updates.add(loss_of(model, 0))
    gradients = conf.updates.state_dict()["gradients"]
    assert [gradient.shape for gradient in gradients] == [(1, 3), (1,)]


def test_the_norm_of_all_gradients_is_limited_and_tracked() -> None:
    free, _ = train(1)
    limited, _ = train(1, clip_gradient_norm=0.5)
    torch.manual_seed(1)
    start = weights(nn.Linear(3, 1))
    norm = (weights(free) - start).norm() / 1e-3
    assert norm > 0.5
    assert (weights(limited) - start).norm() / 1e-3 == pytest.approx(0.5, rel=1e-3)
    tracker.save()
    assert tracker.last_values()["gradient_norm"] == pytest.approx(float(norm), rel=1e-3)


def test_each_gradient_is_limited() -> None:
    limited, _ = train(1, clip_gradient_value=0.25)
    assert [float(p.grad.abs().max()) for p in limited.parameters() if p.grad is not None] == [
        0.25,
        0.25,
    ]


def test_scaled_gradients_are_clipped_as_if_they_were_not() -> None:
    plain, _ = train(3, clip_gradient_norm=0.5)
    scaled, _ = train(3, clip_gradient_norm=0.5, precision="mixed_float16")
    torch.testing.assert_close(weights(scaled), weights(plain), rtol=1e-2, atol=1e-5)
    assert not torch.equal(weights(scaled), weights(plain))


def test_the_average_moves_towards_the_weights_at_each_update() -> None:
    averages: list[Tensor] = []
    for num in range(1, 5):
        model, conf = train(num, ema_decay=0.75)
        new = weights(model)
        averages.append(new if num == 1 else 0.75 * averages[-1] + 0.25 * new)
        torch.testing.assert_close(weights(conf.averaged_model), averages[-1])


def rates(num: int, **overrides: Any) -> list[float]:
    """Return the learning rate of each update."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    conf = calculate(ScheduleConfigs, {"optimizer": optimizer, "num_updates": num, **overrides})
    schedule = conf.schedule
    found = []
    for _ in range(num):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if schedule is not None:
            schedule.step()
    return found


def test_the_learning_rate_is_constant_by_default() -> None:
    assert rates(3) == [2.0, 2.0, 2.0]


def test_warmup_cosine_rises_in_a_line_and_falls_in_a_cosine() -> None:
    found = rates(100, schedule="warmup_cosine", warmup_share=0.1, final_share=0.25)
    assert found[:10] == pytest.approx([0.2 * (i + 1) for i in range(10)])
    assert found[10] == 2.0
    assert found[55] == pytest.approx(2.0 * (0.25 + 0.75 / 2))
    assert found[10:] == sorted(found[10:], reverse=True)
    assert warmup_cosine_factor(100, 100, 0.1, 0.25) == pytest.approx(0.25)
    assert warmup_cosine_factor(200, 100, 0.1, 0.25) == pytest.approx(0.25)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("num", [1, 2, 3, 10, 50])
def test_one_cycle_rises_to_the_learning_rate_and_falls_to_nothing(num: int, share: float) -> None:
    found = rates(num, schedule="one_cycle", warmup_share=share)
    top = found.index(max(found))
    assert all(0 <= rate <= 2.0 + 1e-9 for rate in found)
    assert found[: top + 1] == sorted(found[: top + 1])
    assert found[top:] == sorted(found[top:], reverse=True)
    if num >= 10:
        assert found[top] == pytest.approx(2.0)
        assert top == min(max(1, round(share * num) - 1), num - 2)


def test_a_plateau_reduces_the_learning_rate_after_epochs_that_are_no_better(
    tmp_path: Path,
) -> None:
    given = {
        "schedule": "plateau",
        "plateau_patience": 0,
        "plateau_factor": 0.5,
        "learning_rate": 2.0,
    }
    scalars = Run(tmp_path, given).train().scalars()
    wanted, rate, best = [], 2.0, float("inf")
    for _, loss in scalars["valid_loss"]:
        wanted += [rate] * BATCHES
        rate, best = (rate, loss) if loss < best else (rate / 2, best)
    assert [value for _, value in scalars["learning_rate"]] == wanted
    assert len(set(wanted)) > 1


@pytest.mark.parametrize(
    ("values", "options", "epochs"),
    [
        ([3, 2, 1, 0], {"patience": 1}, 4),
        ([3, 2, 2, 1], {"patience": 1}, 3),
        ([3, 4, 2, 5, 6], {"patience": 2}, 5),
        ([3, 2.95, 2.9, 1], {"patience": 2, "min_delta": 0.5}, 3),
        ([1, 2, 2, 3], {"patience": 1, "is_larger_better": True}, 3),
        ([float("nan"), float("nan"), 1], {"patience": 2}, 2),
        ([float("nan"), 5, float("nan"), 4], {"patience": 2}, 4),
    ],
)
def test_a_training_ends_when_nothing_was_better_for_so_many_epochs(
    values: list[float], options: dict[str, Any], epochs: int
) -> None:
    stopping = EarlyStopping(**options)
    num = 0
    for value in values:
        if stopping.is_due:
            break
        stopping.add(value)
        num += 1
    assert num == epochs


def test_a_run_that_stops_early_is_completed_and_said_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"early_stopping_patience": 1, "early_stopping_min_delta": 10.0, "is_save_models": True}
    run = Run(tmp_path / "run", given).train()
    assert run.experiment.record.status == "completed"
    assert run.experiment.loop.step == 2 * BATCHES
    assert (
        "stopped early at step 14: valid_loss is no better for 1 epochs" in capsys.readouterr().out
    )
    # from its last checkpoint there is nothing to train either
    again = Run(tmp_path / "run", given, is_resume=True).train()
    assert again.experiment.loop.step == 2 * BATCHES
    assert again.scalars() == {}


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        ({"precision": "float8"}, "precision"),
        ({"accumulate_batches": 0}, "accumulate_batches"),
        ({"clip_gradient_norm": 0}, "clip_gradient_norm"),
        ({"clip_gradient_value": -1.0}, "clip_gradient_value"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"schedule": "cosine"}, "schedule"),
        ({"warmup_share": 1.0}, "warmup_share"),
        ({"plateau_factor": 1.0}, "plateau_factor"),
        ({"early_stopping_patience": 0}, "early_stopping_patience"),
        ({"monitored_metric": "train_loss"}, "monitored_metric"),
    ],
)
def test_wrong_options_are_refused(overrides: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as raised:
        calculate(Configs, overrides)
    assert [violation.key for violation in raised.value.violations] == [key]

"""Learning rates that are no numbers of Python: a resumed run is exact, and a fork's own one counts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler as schedulers

from lab_core import loop
from lab_core.experiment import Experiment

pytestmark = pytest.mark.slow

AT, END = 4, 10
GAMMA: Any = np.float32(0.9)
RATES: dict[str, Callable[[float], Any]] = {
    "float": float,
    "float64": np.float64,
    "float32": np.float32,
    "float16": np.float16,
    "tensor": torch.tensor,
}
SCHEDULERS: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
    "exponential": lambda optimizer: schedulers.ExponentialLR(optimizer, GAMMA),
    "lambda": lambda optimizer: schedulers.LambdaLR(optimizer, lambda step: 0.9**step),
    "linear": lambda optimizer: schedulers.LinearLR(optimizer, 0.1, 1.0, 6),
}


def train(
    folder: Path, rate: Any, scheduler: str, *, stop_at: int = END, parent: Path | None = None
) -> tuple[list[float], list[Any]]:
    """Return the learning rate of each step, and the weights."""
    torch.manual_seed(1)
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = SCHEDULERS[scheduler](optimizer)
    experiment = Experiment(
        "rates", writers=(), folder=folder, console=False, is_code_recorded=False
    )
    experiment.add_pytorch_models({"model": model, "optimizer": optimizer, "schedule": schedule})
    if parent is not None:
        experiment.load_from(parent / "checkpoints", AT)
    rates = []
    with experiment.start():
        for value in loop.loop(END):
            optimizer.zero_grad()
            model(torch.full((1, 2), float(value))).square().sum().backward()
            optimizer.step()
            schedule.step()
            rates.append(float(optimizer.param_groups[0]["lr"]))
            if value == stop_at - 1:
                loop.request_stop()
    return rates, [parameter.tolist() for parameter in model.parameters()]


@pytest.mark.parametrize("kind", RATES)
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_learning_rate_keeps_its_kind_when_a_run_is_resumed(
    kind: str, scheduler: str, tmp_path: Path
) -> None:
    rate = RATES[kind]
    rates, weights = train(tmp_path / "whole", rate(0.02), scheduler)
    train(tmp_path / "cut", rate(0.02), scheduler, stop_at=AT)
    resumed = train(tmp_path / "resumed", rate(0.02), scheduler, parent=tmp_path / "cut")
    assert resumed == (rates[AT:], weights)


@pytest.mark.parametrize("kind", RATES)
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_fork_has_the_schedule_of_its_own_learning_rate(
    kind: str, scheduler: str, tmp_path: Path
) -> None:
    rate = RATES[kind]
    train(tmp_path / "parent", rate(0.02), scheduler, stop_at=AT)
    rates, _ = train(tmp_path / "fork", rate(0.5), scheduler, parent=tmp_path / "parent")
    wanted, _ = train(tmp_path / "anew", rate(0.5), scheduler)
    assert rates == pytest.approx(wanted[AT:], rel=2e-3 if kind == "float16" else 1e-6)

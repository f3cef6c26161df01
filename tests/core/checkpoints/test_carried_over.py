"""What a fork takes of an optimizer's state whose own length is an option."""

from __future__ import annotations

import copy

import pytest
import torch

from lab_core.experiment._options import carried_over, options_of


def _lbfgs(history_size: int) -> tuple[torch.nn.Parameter, torch.optim.LBFGS]:
    point = torch.nn.Parameter(torch.tensor([-1.2, 1.0]))
    optimizer = torch.optim.LBFGS([point], lr=0.1, max_iter=2, history_size=history_size)
    return point, optimizer


def _step(point: torch.nn.Parameter, optimizer: torch.optim.LBFGS) -> float:
    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (1 - point[0]) ** 2 + 100 * (point[1] - point[0] ** 2) ** 2
        loss.backward()
        return loss

    return float(optimizer.step(closure).item())


@pytest.mark.parametrize("size", [2, 5, 20])
def test_a_fork_of_lbfgs_has_the_latest_of_the_history(size: int) -> None:
    point, optimizer = _lbfgs(5)
    then = options_of(optimizer)
    for _ in range(6):
        _step(point, optimizer)
    saved = copy.deepcopy(optimizer.state_dict())
    history = saved["state"][0]["old_dirs"]
    assert len(history) == 5

    other_point, other = _lbfgs(size)
    other_point.data.copy_(point.data)
    other.load_state_dict(carried_over(other, saved, then, options_of(other)))
    kept = other.state_dict()["state"][0]["old_dirs"]
    assert all(map(torch.equal, kept, history[-size:]))
    assert len(kept) == min(size, 5)
    losses = [_step(other_point, other) for _ in range(8)]
    assert losses[-1] < losses[0]
    assert len(other.state_dict()["state"][0]["old_dirs"]) <= size

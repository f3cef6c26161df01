"""Objects with a state dict of their own making: what is odd in it is told, and harms no training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from lab_core.errors import CheckpointError
from lab_core.experiment import Experiment


class Owner:
    """Has whatever state it is given, as a function."""

    def __init__(self, state: Callable[[], Any]) -> None:
        self.state_dict = state
        self.loaded: Any = None

    def load_state_dict(self, state: Any) -> None:
        self.loaded = state


def save(folder: Path, owner: Owner) -> Experiment:
    experiment = Experiment("own", writers=(), folder=folder, console=False, is_code_recorded=False)
    experiment.add_pytorch_models({"owner": owner})
    with experiment.start():
        experiment.save_checkpoint()
    return experiment


def circle() -> Any:
    inside: list[Any] = []
    inside.append(inside)
    return inside


def not_yet() -> Any:
    raise RuntimeError("nothing was seen yet")


@pytest.mark.parametrize(
    ("state", "reason"), [(circle, "recursion"), (not_yet, "nothing was seen yet")]
)
def test_a_state_that_cannot_be_had_is_told_only_when_it_is_saved(
    state: Callable[[], Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=f"'owner'.*{reason}"):
        save(tmp_path, Owner(state))


def test_a_mapping_of_any_kind_is_a_state(tmp_path: Path) -> None:
    experiment = save(tmp_path, Owner(lambda: MappingProxyType({"a": [1, 2.0]})))
    assert load(experiment, Owner(lambda: {"a": [1, 2.0]}), tmp_path / "again") == {"a": [1, 2.0]}


def test_arrays_come_from_the_checkpoint_and_a_changed_option_from_the_fork(tmp_path: Path) -> None:
    def state(window: int, seen: float) -> Callable[[], Any]:
        return lambda: {"window": window, "seen": (np.full(3, seen), "seen")}

    experiment = save(tmp_path, Owner(state(10, 1.0)))
    loaded = load(experiment, Owner(state(20, 0.0)), tmp_path / "fork")
    assert loaded["window"] == 20
    assert loaded["seen"][0].tolist() == [1.0, 1.0, 1.0]


def load(source: Experiment, owner: Owner, folder: Path) -> Any:
    experiment = Experiment("own", writers=(), folder=folder, console=False, is_code_recorded=False)
    experiment.add_pytorch_models({"owner": owner})
    experiment.load_from(source.checkpoints_folder, 0)
    with experiment.start():
        pass
    return owner.loaded

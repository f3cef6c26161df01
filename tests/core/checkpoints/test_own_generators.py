"""Generators that are items of the configs go on from a checkpoint, as the global ones do."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from lab_core import loop
from lab_core.experiment import Experiment
from lab_core.helpers.training_loop import TrainingLoopConfigs


class Drawing(TrainingLoopConfigs):
    loop_count = 6
    loop_step = 2
    seed: int = 1
    stop_at: int = 0
    generator: object
    batches: Any
    drawn: list[float]

    def run(self) -> None:
        for start in self.training_loop:
            self.drawn.extend(self.draw())
            if start == self.stop_at - 2:
                loop.request_stop()

    def draw(self) -> list[float]:
        generator: Any = self.generator
        if isinstance(generator, torch.Generator):
            return [float(batch) for batch in self.batches]
        return [float(generator.random())]


@Drawing.calc(Drawing.generator, "torch")
def of_torch(c: Drawing) -> torch.Generator:
    return torch.Generator().manual_seed(c.seed)


Drawing.calc(Drawing.generator, "numpy")(lambda c: np.random.default_rng(c.seed))
Drawing.calc(Drawing.generator, "philox")(lambda c: np.random.Generator(np.random.Philox(c.seed)))
Drawing.calc(Drawing.generator, "legacy")(lambda c: np.random.RandomState(c.seed))
Drawing.calc(Drawing.generator, "python")(lambda c: random.Random(c.seed))


@Drawing.calc(Drawing.batches)
def shuffled(c: Drawing) -> Any:
    data: Any = torch.arange(20)
    return DataLoader(data, shuffle=True, generator=c.generator)


@Drawing.calc(Drawing.drawn)
def nothing() -> list[float]:
    return []


KINDS = ("torch", "numpy", "philox", "legacy", "python")


def draw(folder: Path, source: Path | None = None, **overrides: Any) -> list[float]:
    run = Experiment("drawing", writers=(), folder=folder, console=False)
    if source is not None:
        run.load_from(source / "checkpoints", 2)
    conf: Drawing = run.calculate_configs(Drawing(), overrides)
    with run.start():
        conf.run()
    return conf.drawn


@pytest.mark.parametrize("kind", KINDS)
def test_a_generator_goes_on_where_it_was(kind: str, tmp_path: Path) -> None:
    whole = draw(tmp_path / "whole", generator=kind)
    first = draw(tmp_path / "first", generator=kind, stop_at=2)
    assert first + draw(tmp_path / "rest", tmp_path / "first", generator=kind) == whole


@pytest.mark.parametrize("kind", KINDS)
def test_a_fork_that_seeds_it_anew_draws_other_numbers(kind: str, tmp_path: Path) -> None:
    draw(tmp_path / "first", generator=kind, stop_at=2)
    same = draw(tmp_path / "same", tmp_path / "first", generator=kind)
    other = draw(tmp_path / "other", tmp_path / "first", generator=kind, seed=2)
    assert other != same
    assert other == draw(tmp_path / "again", tmp_path / "first", generator=kind, seed=2)


def test_what_draws_from_the_system_has_no_state(tmp_path: Path) -> None:
    run = Experiment("drawing", writers=(), folder=tmp_path, console=False)
    run.calculate_configs(Drawing(), {"generator": random.SystemRandom()}, ["generator"])
    with run.start():
        assert (run.save_checkpoint().path / "_run.pt").exists()

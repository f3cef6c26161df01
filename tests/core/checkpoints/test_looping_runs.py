"""A loop that measures before its step counts: `for step in loop.loop(n): tracker.save(...)`."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from lab_core import loop, tracker
from lab_core.configs import BaseConfigs
from lab_core.experiment import Experiment
from lab_core.writers import MemoryWriter


class Configs(BaseConfigs):
    pass


class CutError(Exception):
    """The end of a trainer that nobody expected."""


def train(folder: Path, memory: MemoryWriter, *, cut_at: int | None, is_resume: bool) -> Experiment:
    experiment = Experiment(
        "looping",
        writers=["sqlite", memory],
        folder=folder,
        console=False,
        checkpoint_interval=4,
    )
    if is_resume:
        experiment.resume()
    experiment.calculate_configs(Configs)
    with experiment.start():
        for step in loop.loop(10):
            if step == cut_at:
                raise CutError
            tracker.save(loss=float(step))
    return experiment


def test_what_a_resumed_loop_measures_again_does_not_count_twice(tmp_path: Path) -> None:
    with pytest.raises(CutError):
        train(tmp_path, MemoryWriter(), cut_at=6, is_resume=False)

    resumed = Experiment("looping", writers=(), folder=tmp_path, console=False)
    resumed.resume()
    # the checkpoint is of step 4, where the loop has measured the steps 0 to 3
    assert resumed.last_recorded_step == 3

    second = MemoryWriter()
    train(tmp_path, second, cut_at=None, is_resume=True)
    assert [step for step, _ in second.scalars["loss"]] == [4, 5, 6, 7, 8, 9]
    with sqlite3.connect(tmp_path / "sqlite.db") as db:
        rows = db.execute("SELECT step, value FROM scalars ORDER BY step").fetchall()
    assert rows == [(step, float(step)) for step in range(10)]

"""A tracker goes on from a checkpoint as if nothing had been."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lab_core.tracker import Kind, Tracker
from lab_core.writers import MemoryWriter, SqliteWriter


def make(writer: MemoryWriter) -> Tracker:
    current = Tracker([writer])
    current.declare(Kind.QUEUE, "loss", 3)
    current.declare(Kind.HISTOGRAM, "weights")
    current.declare(Kind.INDEXED, "each")
    current.declare(Kind.IMAGE, "picture")
    current.start()
    return current


def work(current: Tracker, step: int) -> None:
    current.add(loss=float(step), acc=math.nan if step == 2 else 1.0 / step)
    current.add(weights=torch.arange(5.0) * step, each=[(step, 1.0)])
    current.add(picture=np.full((2, 3), step, np.uint8))


@pytest.mark.parametrize("checkpoint", [1, 2, 3, 4, 5])
def test_a_resumed_tracker_writes_what_an_undisturbed_one_writes(
    checkpoint: int, tmp_path: Path
) -> None:
    whole = MemoryWriter()
    with make(whole) as undisturbed:
        for step in range(1, 7):
            work(undisturbed, step)
            if step % 2 == 0:
                undisturbed.save(step)

    first = MemoryWriter()
    stopped = make(first)
    for step in range(1, checkpoint + 1):
        work(stopped, step)
        if step % 2 == 0:
            stopped.save(step)
    torch.save(stopped.state_dict(), tmp_path / "state.pt")
    assert stopped.flush()
    seen = {name: list(points) for name, points in first.scalars.items()}

    second = MemoryWriter()
    with make(second) as resumed:
        state: dict[str, Any] = torch.load(tmp_path / "state.pt", weights_only=True)
        resumed.load_state_dict(state)
        for step in range(checkpoint + 1, 7):
            work(resumed, step)
            if step % 2 == 0:
                resumed.save(step)

    together = {name: seen.get(name, []) + second.scalars.get(name, []) for name in whole.scalars}
    assert repr(together) == repr(whole.scalars)
    pictures = [p.images_HWC[0].tolist() for p in whole.images]
    assert pictures[-1] == second.images[-1].images_HWC[0].tolist()
    assert [p.values for p in whole.indexed][-1] == second.indexed[-1].values
    stopped.close()


def test_the_last_values_outlive_a_checkpoint() -> None:
    first, second = Tracker(), Tracker()
    first.save(1, x=1.0, y=2.0)
    second.load_state_dict(first.state_dict())
    second.save(2, x=3.0)
    assert second.last_values() == {"x": 3.0, "y": 2.0}


def test_writers_forget_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    import sqlite3

    for until, after in ((5, None), (4, 2)):
        current = Tracker([SqliteWriter(tmp_path / "a.db")])
        if after is not None:
            current.truncate(after)
        with current:
            for step in range((after or 0) + 1, until):
                current.save(step, x=float(until))
    with sqlite3.connect(tmp_path / "a.db") as db:
        points = db.execute("SELECT step, value FROM scalars ORDER BY step").fetchall()
    assert points == [(1, 5.0), (2, 5.0), (3, 4.0)]

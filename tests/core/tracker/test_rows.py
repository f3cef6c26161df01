"""What a writer of rows gets before `save` returns: what the batches will say of the same saves."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from lab_core.tracker import Kind, Tracker, values
from lab_core.writers import Batch, MemoryWriter

Points = dict[str, list[tuple[int, float]]]


class Rows(MemoryWriter):
    """Keeps rows and batches."""

    name = "rows"

    def __init__(self) -> None:
        super().__init__()
        self.rows: Points = {}
        self.numbers: list[int] = []
        self.last_row = 0
        self.has_room = True

    def put_row(
        self,
        row: int,
        step: int,
        time: float,
        names: tuple[str, ...],
        values: Sequence[float],
        steps: Sequence[int] | None,
    ) -> bool:
        if not self.has_room:
            return False
        self.numbers.append(row)
        for name, value, at in zip(names, values, steps or [step] * len(names), strict=True):
            self.rows.setdefault(name, []).append((at, value))
        return True

    def write(self, batch: Batch) -> None:
        super().write(batch)
        self.last_row = batch.last_row


def test_rows_say_what_batches_say_of_every_kind() -> None:
    kept = Rows()
    current = Tracker([kept])
    current.declare(Kind.QUEUE, "queue", 3)
    current.declare(Kind.HISTOGRAM, "recent", 4)
    current.declare(Kind.HISTOGRAM, "all")
    current.declare(Kind.TEXT, "text")
    current.declare(Kind.INDEXED, "each")
    for step in range(8):
        current.add(loss=step / 8)
        if step % 2:
            current.add(loss=torch.tensor(0.5), recent=np.arange(step, dtype=np.float32))
        current.add(queue=float(step), all=np.arange(4.0), text="hello", each=(1, 2.0))
        if step == 3:
            current.settle()
        current.save(step, array=[1.0, np.float32(2.0)])
    assert kept.scalars == {}, "nothing was written yet"
    early = {name: list(points) for name, points in kept.rows.items()}
    with current:
        pass
    assert early.keys() == kept.scalars.keys()
    for name, points in kept.scalars.items():
        assert [step for step, _ in early[name]] == [step for step, _ in points]
        assert [v for _, v in early[name]] == pytest.approx([v for _, v in points])
    assert kept.numbers == list(range(1, 9))
    assert kept.last_row == 8


def test_the_mean_of_a_window_is_the_same_to_the_last_bit() -> None:
    kept = Rows()
    current = Tracker([kept])
    current.declare(Kind.QUEUE, "queue", 4)
    for step, value in enumerate([1e16, 1.0, -1e16, 1.0]):
        current.save(step, queue=value)
    early = list(kept.rows["queue"])
    with current:
        pass
    assert early == kept.scalars["queue"]


def test_a_metric_stands_at_its_own_step_in_a_row_too() -> None:
    kept, step = Rows(), [1]
    current = Tracker([kept], get_step=lambda: step[0])
    current.add(accuracy=0.5)
    current.settle()
    step[0] = 2
    current.save(loss=0.25)
    assert kept.rows == {"accuracy": [(1, 0.5)], "loss": [(2, 0.25)]}


def test_a_batch_says_up_to_which_row_it_goes_also_over_a_reset() -> None:
    kept = Rows()
    with Tracker([kept]) as current:
        current.save(1, x=1.0)
        current.save(2)  # nothing: no row
        current.save(3, x=1.0)
        assert current.flush()
        assert kept.last_row == 2
        current.save(4, x=1.0)
        current.reset()
        current.save(5, x=1.0)
        assert current.flush()
        assert kept.last_row == 4
    assert kept.numbers == [1, 2, 3, 4]


def test_windows_of_a_checkpoint_count() -> None:
    first = Tracker()
    first.declare(Kind.QUEUE, "q", 3)
    for value in (1.0, 2.0, 3.0):
        first.save(1, q=value)
    kept = Rows()
    second = Tracker([kept])
    second.declare(Kind.QUEUE, "q", 3)
    second.load_state_dict(first.state_dict())
    second.save(2, q=7.0)
    assert kept.rows == {"q": [(2, 4.0)]}


def test_what_is_on_a_device_is_left_out_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values.DeviceValue, "is_used", False)
    kept = Rows()
    current = Tracker([kept])
    current.declare(Kind.QUEUE, "q", 2)
    on_device = values.DeviceValue(torch.tensor(8.0), None)
    for step, value in enumerate((on_device, 1.0, 3.0)):
        current.add(x=float(step))
        current._pending["loss"] = [None, on_device]
        current._pending["q"] = [None, value]
        current.save(step)
    assert kept.rows == {"x": [(0, 0.0), (1, 1.0), (2, 2.0)], "q": [(2, 2.0)]}


def test_a_save_without_room_waits_until_its_batch_is_written() -> None:
    kept = Rows()
    kept.has_room = False
    with Tracker([kept], interval_s=60.0) as current:
        current.save(1, x=1.0)
        current.save(2, x=2.0)
        assert kept.scalars == {"x": [(1, 1.0), (2, 2.0)]}


def test_a_writer_that_hangs_without_room_is_told_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("lab_core.tracker.tracker._ROOM_S", 0.01)
    let_go = threading.Event()

    class Hanging(Rows):
        def write(self, batch: Batch) -> None:
            assert let_go.wait(60)

    hanging = Hanging()
    hanging.has_room = False
    current = Tracker([hanging])
    current.start()
    current.save(1, x=1.0)
    current.save(2, x=1.0)
    let_go.set()
    assert current.close()
    assert caplog.messages == [
        "the rows writer stays behind; what is saved now is lost if this process dies"
    ]

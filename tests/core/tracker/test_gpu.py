"""Tensors on a GPU: no wait for it when they are added, one transfer for a batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from lab_core import tracker
from lab_core.writers import MemoryWriter

Saved = Callable[[], MemoryWriter]
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]


def test_add_does_not_wait_for_the_gpu(saved: Saved) -> None:
    tracker.set_histogram("weights")
    loss = torch.ones(3, device="cuda").sum()
    weights = torch.arange(100.0, device="cuda")
    torch.cuda.set_sync_debug_mode("error")  # of this thread and of the writer's: see below
    try:
        for _ in range(5):
            tracker.add(loss=loss, weights=weights)
        tracker.add(value=loss > 2)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    tracker.save(1)
    kept = saved()
    assert kept.scalars == {"loss": [(1, 3.0)], "weights": [(1, 49.5)], "value": [(1, 1.0)]}
    assert kept.histograms[0].num == 500


def test_values_added_on_a_stream_of_its_own_are_right(saved: Saved) -> None:
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        value = torch.zeros((), device="cuda")
        for step in range(50):
            value += torch.ones(1000, 1000, device="cuda").mean()
            tracker.save(step, x=value)  # changed in place right after
    assert saved().scalars["x"] == [(step, step + 1.0) for step in range(50)]


def test_a_batch_takes_one_transfer(saved: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    from lab_core.tracker import values as held

    calls: list[int] = []
    fetch = held.fetch

    def count(values: list[held.DeviceValue]) -> list[object]:
        calls.append(len(values))
        return fetch(values)

    monkeypatch.setattr(held, "fetch", count)
    current = tracker.set_current(tracker.Tracker([MemoryWriter()]))
    for step in range(100):
        current.save(step, x=torch.tensor(1.0, device="cuda"))
    current.start()
    current.close()
    assert calls == [100]


def test_images_and_pending_values_on_the_gpu(saved: Saved) -> None:
    tracker.set_image("picture")
    tracker.add(picture=torch.ones(3, 4, 5, device="cuda"), x=torch.tensor(2.0, device="cuda"))
    state = tracker.current().state_dict()
    tracker.save(1)
    assert np.min(saved().images[0].images_HWC[0]) == 255
    other = tracker.Tracker()
    other.load_state_dict(state)
    other.save(2)
    assert other.last_values() == {"x": 2.0}

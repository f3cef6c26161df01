"""Values that stay on a device until their batch is written, here with a CPU that plays the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from lab_core import tracker
from lab_core.tracker import values as held
from lab_core.tracker.values import DeviceValue
from lab_core.writers import MemoryWriter

Saved = Callable[[], MemoryWriter]


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let every tensor seem to be on a device; return the sizes of the transfers."""
    transfers: list[int] = []
    fetch = held.fetch

    def keep(torch_module: Any, name: str, value: torch.Tensor, *, as_is: bool = False) -> Any:
        dtype = held._held_dtype(torch_module, value, value.numel(), as_is=as_is)
        return DeviceValue(value.detach().to(dtype=dtype, copy=True), None)

    def count(values: Any) -> list[Any]:
        transfers.append(len(values))
        return fetch(values)

    monkeypatch.setattr(held, "_tensor", keep)
    monkeypatch.setattr(held, "fetch", count)
    return transfers


def test_they_are_fetched_together_and_land_where_they_belong(device: list[int]) -> None:
    kept = MemoryWriter()
    current = tracker.set_current(tracker.Tracker([kept]))
    tracker.set_histogram("weights")
    tracker.set_indexed_scalar("each")
    tracker.set_image("picture")
    for step in range(3):
        tracker.add(loss=torch.tensor(float(step)), plain=0.5, many=torch.tensor([1, 2, 6]))
        tracker.add(weights=torch.arange(4.0) + step, big=torch.tensor(2**40 + 1))
        tracker.add(each=[(step, torch.tensor(7.0)), (step, 8.0)])
        tracker.add(picture=torch.full((2, 3), step, dtype=torch.uint8))
        tracker.save(step)
    current.start()
    current.close()
    assert device == [18]
    assert kept.scalars == {
        "loss": [(0, 0.0), (1, 1.0), (2, 2.0)],
        "plain": [(0, 0.5), (1, 0.5), (2, 0.5)],
        "many": [(0, 3.0), (1, 3.0), (2, 3.0)],
        "weights": [(0, 1.5), (1, 2.5), (2, 3.5)],
        "big": [(s, 2.0**40 + 1) for s in range(3)],
    }
    assert [h.edges[-1] for h in kept.histograms] == [3.0, 4.0, 5.0]
    assert [(p.indices, p.values) for p in kept.indexed] == [((s,), (7.5,)) for s in range(3)]
    assert [p.images_HWC[0].tolist() for p in kept.images] == [[[[s]] * 3] * 2 for s in range(3)]


def test_big_ones_go_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "_BIG", 3)
    kept = MemoryWriter()
    with tracker.Tracker([kept]) as current:
        current.add(a=torch.arange(3.0), b=torch.arange(8.0), c=torch.arange(9.0), d=torch.ones(2))
        current.save(1)
    assert {n: p[0][1] for n, p in kept.scalars.items()} == {"a": 1.0, "b": 3.5, "c": 4.0, "d": 1.0}


def test_a_device_that_fails_costs_the_values_and_not_the_training(
    saved: Saved, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(values: Any) -> list[Any]:
        raise RuntimeError("CUDA error: device-side assert triggered")

    with monkeypatch.context() as patch:
        patch.setattr(held, "fetch", fail)
        tracker.save(1, loss=torch.tensor(1.0))
        saved()
    tracker.save(2, loss=torch.tensor(2.0))
    assert saved().scalars == {"loss": [(2, 2.0)]}
    assert "values that were tracked are lost" in caplog.text

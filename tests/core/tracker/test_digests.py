"""Large tensors given to a histogram are kept as a few numbers, from which the same histogram comes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from lab_core import tracker
from lab_core.errors import TrackerError
from lab_core.tracker import digests
from lab_core.tracker import values as held
from lab_core.tracker.indicators import Kind
from lab_core.utils.pytorch import add_model_indicators, store_model_indicators
from lab_core.writers import MemoryWriter
from lab_core.writers.base import HistogramPoint
from lab_core.writers.summaries import histogram, mean

Saved = Callable[[], MemoryWriter]

TENSORS: dict[str, torch.Tensor] = {
    "normal": torch.randn(5000, generator=torch.Generator().manual_seed(1)),
    "integers": torch.arange(1000),
    "half": torch.linspace(-3, 3, 900).half(),
    "transposed": torch.arange(600.0).reshape(20, 30).t(),
    "not finite": torch.tensor([1.0, math.nan, 2.0, math.inf, -math.inf, 2.5, math.inf]),
    "none finite": torch.tensor([math.nan, math.inf]),
    "all the same": torch.full((70,), 0.25),
    "zeros": torch.zeros(9),
    "bounds of bins": torch.arange(31.0).repeat(3),
    "too wide": torch.tensor([-1.7e308, 0.0, 1.7e308], dtype=torch.float64),
    "too narrow": torch.tensor([1.0, 1.0 + 2**-52], dtype=torch.float64),
    "too narrow above 1": torch.tensor([1 - 1.2e-15, 1 + 1.2e-15], dtype=torch.float64),
    "too narrow near 0": torch.tensor([1e-322, 5e-322], dtype=torch.float64),
}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let few elements be many, and a part of them be fewer."""
    monkeypatch.setattr(held, "_MANY", 1)
    monkeypatch.setattr(digests, "_PART", 64)


def assert_same(ours: HistogramPoint, theirs: HistogramPoint) -> None:
    assert (ours.num, ours.num_nan, ours.num_inf) == (theirs.num, theirs.num_nan, theirs.num_inf)
    assert ours.counts == theirs.counts
    np.testing.assert_allclose(ours.edges, theirs.edges, rtol=1e-12)
    np.testing.assert_allclose(ours.total, theirs.total, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(ours.sum_squares, theirs.sum_squares, rtol=1e-12)


@pytest.mark.parametrize("name", TENSORS)
def test_the_histogram_of_a_digest_is_that_of_the_values(name: str) -> None:
    tensor = TENSORS[name]
    (digest,) = held.spread("w", tensor)
    assert type(digest) is tuple
    theirs = histogram("w", 1, 2.0, [tensor.double().numpy()])
    assert_same(histogram("w", 1, 2.0, [digest]), theirs)
    np.testing.assert_allclose(mean([digest]), mean([tensor.double().numpy()]), rtol=1e-12)


def test_a_digest_among_others_counts_at_the_middle_of_its_bins() -> None:
    first, second = torch.arange(3000.0), torch.arange(6000.0) - 1000
    (digest,) = held.spread("w", first)
    both = [first.numpy(), second.numpy(), 9000.0]
    ours, theirs = histogram("w", 1, 2.0, [digest, *both[1:]]), histogram("w", 1, 2.0, both)
    assert (ours.edges, ours.num, ours.total) == (theirs.edges, theirs.num, theirs.total)
    assert sum(ours.counts) == 9001
    # a bin may be off by what one of the digest's bins holds
    np.testing.assert_allclose(np.cumsum(ours.counts), np.cumsum(theirs.counts), atol=100)
    assert mean([digest, *both[1:]]) == pytest.approx(mean(both))


def test_two_digests_of_no_or_one_value_are_joined() -> None:
    nothing, same = torch.full((3,), math.nan), torch.full((2,), 4.0)
    joined = [*held.spread("w", nothing), *held.spread("w", same)]
    point = histogram("w", 1, 2.0, joined)
    assert (point.num, point.num_nan, point.total, sum(point.counts)) == (5, 3, 8.0, 2)
    wide = histogram("w", 1, 2.0, [*joined, *held.spread("w", torch.tensor([0.0, 30.0]))])
    assert (wide.edges[0], wide.edges[-1], wide.counts[4], sum(wide.counts)) == (0.0, 30.0, 2, 4)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(5, dtype=torch.complex64),
        torch.zeros(5, device="meta"),
        torch.zeros(5).to_sparse(),
    ],
    ids=["complex", "meta", "sparse"],
)
def test_what_holds_no_numbers_is_refused(tensor: torch.Tensor) -> None:
    tracker.set_histogram("w")
    with pytest.raises(TrackerError, match="cannot track 'w'"):
        tracker.add(w=tensor)


def test_it_comes_through_the_tracker_and_through_a_checkpoint(saved: Saved) -> None:
    values = torch.linspace(0, 1, 1000)
    tracker.set_histogram("w")
    tracker.add(w=values)
    values += 100  # the caller may do so
    state = tracker.current().state_dict()
    tracker.save(1)
    kept = saved()
    (point,) = kept.histograms
    assert (point.num, point.edges[0], point.edges[-1]) == (1000, 0.0, 1.0)
    ((step, value),) = kept.scalars["w"]
    assert (step, round(value, 6)) == (1, 0.5)
    other = tracker.Tracker([again := MemoryWriter()])
    other.declare(Kind.HISTOGRAM, "w")
    other.load_state_dict(state)
    other.start()
    other.save(1)
    other.close()
    assert [h.counts for h in again.histograms] == [point.counts]
    assert again.scalars["w"] == kept.scalars["w"]


def test_the_last_values_of_a_window_are_kept_as_they_are(saved: Saved) -> None:
    tracker.set_histogram("w", 4)
    tracker.add(w=torch.arange(10.0))
    tracker.save(1)
    assert saved().scalars["w"] == [(1, 7.5)]


def test_a_model_s_indicators_hold_no_copy_of_it(
    saved: Saved, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    model = torch.nn.Linear(2000, 500)
    model(torch.ones(1, 2000)).sum().backward()
    add_model_indicators(model)
    store_model_indicators(model)
    pending: dict[str, Any] = tracker.current()._pending
    sizes = {name: value[1].nbytes for name, (_, value) in pending.items() if type(value) is tuple}
    assert set(sizes) == {"model.weight", "model.weight.grad"}
    assert max(sizes.values()) < 1000
    tracker.save(1)
    assert {h.name: h.num for h in saved().histograms} == {
        "model.weight": 10**6,
        "model.weight.grad": 10**6,
        "model.bias": 500,
        "model.bias.grad": 500,
    }

"""What becomes of values: scalars, queues, histograms, indexed scalars, texts and images."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from lab_core import tracker
from lab_core.errors import TrackerError
from lab_core.writers import MemoryWriter

Saved = Callable[[], MemoryWriter]


def test_a_scalar_is_the_mean_of_what_came_since_the_last_save(saved: Saved) -> None:
    for value in (1.0, 2.0, 6.0):
        tracker.add(loss=value)
    tracker.save(1)
    tracker.save(2, loss=5.0)
    assert saved().scalars == {"loss": [(1, 3.0), (2, 5.0)]}


def test_a_save_without_new_values_writes_nothing(saved: Saved) -> None:
    tracker.save(1, loss=1.0)
    tracker.save(2)
    assert saved().scalars == {"loss": [(1, 1.0)]}


def test_what_is_masked_is_no_value(saved: Saved) -> None:
    tracker.set_image("picture")
    hidden = np.ma.masked_array([1.0, 2.0, 1000.0], [False, False, True])
    tracker.save(1, loss=hidden, one=np.ma.masked_array([7.0, 8.0], [False, True]))
    tracker.save(
        2, picture=np.ma.masked_array(np.full((2, 2), 200, np.uint8), np.eye(2, dtype=bool))
    )
    kept = saved()
    assert kept.scalars == {"loss": [(1, 1.5)], "one": [(1, 7.0)]}
    assert kept.images[0].images_HWC[0][:, :, 0].tolist() == [[0, 200], [200, 0]]
    with pytest.raises(TrackerError, match="empty array"):
        tracker.add(loss=np.ma.masked_array([1.0], [True]))


def test_a_queue_keeps_the_last_values(saved: Saved) -> None:
    tracker.set_queue("loss", 3)
    for step in range(5):
        tracker.save(step, loss=float(step))
    kept = saved()
    assert kept.scalars["loss"] == [(0, 0.0), (1, 0.5), (2, 1.0), (3, 2.0), (4, 3.0)]
    assert [h.num for h in kept.histograms] == [1, 2, 3, 3, 3]


def test_a_queue_is_written_only_when_it_has_new_data(saved: Saved) -> None:
    tracker.set_queue("reward", 10)
    tracker.save(1, reward=1.0)
    tracker.save(2, loss=1.0)
    tracker.save(3, loss=1.0)
    assert saved().scalars["reward"] == [(1, 1.0)]
    assert [h.step for h in saved().histograms] == [1]


def test_set_histogram_as_the_tutorial_writes_it(saved: Saved) -> None:
    tracker.set_histogram("train_loss", 20, True)
    for step in range(30):
        tracker.save(step, train_loss=float(step))
    kept = saved()
    assert kept.histograms[-1].num == 20
    assert (kept.histograms[-1].edges[0], kept.histograms[-1].edges[-1]) == (10.0, 29.0)
    assert kept.scalars["train_loss"][-1] == (29, 19.5)
    assert tracker.current().indicators()["train_loss"]["is_print"]


def test_a_histogram_counts_what_came_since_the_last_save(saved: Saved) -> None:
    tracker.set_histogram("w")
    tracker.save(1, w=torch.arange(100.0))
    tracker.save(2, w=[1.0, 1.0])
    first, second = saved().histograms
    assert (first.num, sum(first.counts), first.edges[0], first.edges[-1]) == (100, 100, 0.0, 99.0)
    assert (first.total, first.sum_squares) == (4950.0, 328350.0)
    assert (second.num, second.counts) == (2, (2,))
    assert second.edges[0] == 1.0 < second.edges[1]


def test_a_histogram_tells_how_many_values_were_not_finite(saved: Saved) -> None:
    tracker.set_histogram("w")
    tracker.save(1, w=np.array([1.0, math.nan, math.inf, -math.inf, 2.0]))
    tracker.save(2, w=math.nan)
    first, second = saved().histograms
    assert (first.num, first.num_nan, first.num_inf, sum(first.counts)) == (5, 1, 2, 2)
    assert (second.num, second.num_nan, second.counts) == (1, 1, ())
    assert math.isnan(saved().scalars["w"][0][1])


@pytest.mark.parametrize("values", [[-1e308, 1e308], [1e-320, 2e-320], [1e16, 1e16 + 2]])
def test_histograms_of_extreme_values_lose_none(saved: Saved, values: list[float]) -> None:
    tracker.set_histogram("w")
    tracker.save(1, w=values)
    (point,) = saved().histograms
    assert sum(point.counts) == 2
    assert list(point.edges) == sorted(set(point.edges))


def test_an_indexed_scalar_has_a_value_for_each_index(saved: Saved) -> None:
    tracker.set_indexed_scalar("sample_loss")
    tracker.add("sample_loss", (3, 0.5))
    tracker.add("sample_loss", [(4, 1.0), (3, 1.5)])
    tracker.add("sample_loss", (torch.tensor([7, 8]), torch.tensor([2.0, 3.0])))
    tracker.save(1)
    (point,) = saved().indexed
    assert dict(zip(point.indices, point.values, strict=True)) == {3: 1.0, 4: 1.0, 7: 2.0, 8: 3.0}
    assert saved().scalars == {}


@pytest.mark.parametrize(
    "value", [1.0, (1.5, 2.0), ([1, 2], [1.0]), [(1, None)], [], (1, 2, 3), (2**63, 1.0)]
)
def test_what_is_no_indexed_value_is_refused(value: object) -> None:
    tracker.set_current(None)
    tracker.set_indexed_scalar("x")
    with pytest.raises(TrackerError, match="'x'"):
        tracker.add("x", value)


def test_texts_are_kept(saved: Saved) -> None:
    tracker.set_text("sample")
    tracker.save(1, sample="one")
    tracker.add(sample="two")
    tracker.add(sample="thr\ud83d")  # half of a pair, as a tokenizer may cut it
    tracker.save(2)
    assert [(t.step, t.text) for t in saved().texts] == [(1, "one"), (2, "two\n\nthr?")]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((4, 5), [(4, 5, 1)]),
        ((1, 4, 5), [(4, 5, 1)]),
        ((3, 4, 5), [(4, 5, 3)]),
        ((4, 5, 3), [(4, 5, 3)]),
        ((2, 3, 4, 5), [(4, 5, 3)] * 2),
        ((2, 4, 5, 4), [(4, 5, 4)] * 2),
    ],
)
@pytest.mark.parametrize("make", [np.zeros, torch.zeros])
def test_images_of_every_layout(
    saved: Saved,
    shape: tuple[int, ...],
    expected: list[tuple[int, ...]],
    make: Callable[..., object],
) -> None:
    tracker.set_image("x")
    tracker.save(1, x=make(shape))
    (point,) = saved().images
    assert [image.shape for image in point.images_HWC] == expected


def test_images_become_8_bits(saved: Saved) -> None:
    tracker.set_image("*")
    floats = np.array([[0.0, 0.5, 1.0, 7.0, -1.0, math.nan]])
    tracker.save(1, floats=floats, tensor=torch.tensor(floats))
    tracker.save(2, ints=torch.tensor([[0, 128, 300]]), bools=torch.tensor([[True, False]]))
    tracker.save(3, ints=np.array([[0, 128, 300]]), bools=np.array([[True, False]]))
    kept = {(p.name, p.step): p.images_HWC[0][:, :, 0].tolist() for p in saved().images}
    assert kept["floats", 1] == kept["tensor", 1] == [[0, 128, 255, 255, 0, 0]]
    assert kept["ints", 2] == kept["ints", 3] == [[0, 128, 255]]
    assert kept["bools", 2] == kept["bools", 3] == [[255, 0]]


@pytest.mark.parametrize(
    "value", [1.0, "a", np.zeros(3), np.zeros((2, 4, 5)), np.zeros((0, 3)), []]
)
def test_what_is_no_image_is_refused(value: object) -> None:
    tracker.set_current(None)
    tracker.set_image("x")
    with pytest.raises(TrackerError, match="'x'"):
        tracker.add(x=value)

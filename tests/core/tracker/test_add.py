"""What `add` takes, and that what it refuses leaves no trace."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import torch

from lab_core import tracker
from lab_core.errors import TrackerError
from lab_core.writers import MemoryWriter

Saved = Callable[[], MemoryWriter]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, 1.0),
        (0.5, 0.5),
        (True, 1.0),
        (False, 0.0),
        (np.float32(0.25), 0.25),
        (np.int64(3), 3.0),
        (np.bool_(True), 1.0),
        (np.array([1.0, 3.0]), 2.0),
        (torch.tensor(0.5), 0.5),
        (torch.tensor([7]), 7.0),
        (torch.tensor([1.0, 2.0], dtype=torch.bfloat16), 1.5),
        (torch.tensor(2.0, requires_grad=True), 2.0),
        (torch.tensor([True, False]), 0.5),
        ([1.0, torch.tensor(2.0), np.float64(3.0)], 2.0),
        (Decimal("0.125"), 0.125),
    ],
    ids=repr,
)
def test_numbers_of_every_kind_are_taken(saved: Saved, value: Any, expected: float) -> None:
    tracker.save(1, x=value)
    assert saved().scalars == {"x": [(1, expected)]}


def test_add_takes_keywords_a_pair_or_a_mapping(saved: Saved) -> None:
    tracker.add(a=1)
    tracker.add("b", 2)
    tracker.add({"c": 3})
    tracker.add({"d": 4}, e=5)
    tracker.save(1)
    assert saved().scalars == {name: [(1, v)] for v, name in enumerate("abcde", 1)}


def test_save_takes_a_step_and_the_same_forms(saved: Saved) -> None:
    tracker.save(1, a=1)
    tracker.save(2, "a", 2)
    tracker.save(3, {"a": 3})
    tracker.save("a", 4)
    tracker.save(a=5, step=5)
    tracker.save(np.int64(6), a=6)
    assert saved().scalars["a"] == [(1, 1), (2, 2), (3, 3), (0, 4), (5, 5), (6, 6)]


@pytest.mark.parametrize(
    "value",
    [
        None,
        "0.5",
        1j,
        pytest.param(object(), id="object"),  # its text has an address
        [],
        [1.0, None],
        10**400,
        np.array([]),
        np.array(["a"]),
        np.array([1j]),
        torch.tensor([]),
        torch.tensor([1j, 2j]),
        torch.zeros(2, device="meta"),
        torch.eye(2).to_sparse(),
    ],
    ids=lambda v: str(v)[:30],
)
def test_what_cannot_be_tracked_is_refused_before_anything_changes(
    saved: Saved, value: Any
) -> None:
    tracker.add(loss=1.0)
    before = tracker.current().indicators()
    with pytest.raises(TrackerError, match="bad"):
        tracker.add(loss=2.0, new=3.0, bad=value)
    assert tracker.current().indicators() == before
    tracker.save(1)
    assert saved().scalars == {"loss": [(1, 1.0)]}


def test_a_refused_save_saves_nothing(saved: Saved) -> None:
    tracker.add(loss=1.0)
    with pytest.raises(TrackerError):
        tracker.save(1, bad=None)
    tracker.save(2)
    assert saved().scalars == {"loss": [(2, 1.0)]}


def test_a_refused_name_may_be_declared_as_something_else(saved: Saved) -> None:
    with pytest.raises(TrackerError):
        tracker.add(note=1.0, bad=None)
    tracker.set_text("note")
    with pytest.raises(TrackerError, match="takes a str"):
        tracker.add(note=1.0)
    tracker.save(1, note="hello")
    assert [t.text for t in saved().texts] == ["hello"]


@pytest.mark.parametrize("args", [(), ("a",), (1,), ("a", 1, 2), (None,), ({"a": 1}, 2)])
def test_forms_that_mean_nothing_are_refused(args: tuple[Any, ...]) -> None:
    if args:
        with pytest.raises(TrackerError, match="add takes"):
            tracker.add(*args)
    else:
        tracker.add()  # nothing to add is nothing wrong


@pytest.mark.parametrize("name", ["", 1, None, "\ud800"])
def test_names_that_are_no_texts_are_refused(name: Any) -> None:
    with pytest.raises(TrackerError, match="name must be"):
        tracker.add({name: 1.0})
    tracker.add({"n.1": 1.0})
    with tracker.namespace("n"), pytest.raises(TrackerError, match="name must be"):
        tracker.add({name: 1.0})


def test_a_name_given_twice_is_refused() -> None:
    with pytest.raises(TrackerError, match="'a' is given twice"):
        tracker.add({"a": 1}, a=2)


@pytest.mark.parametrize("step", [-1, 1.5, True, 2**63, [1]])
def test_a_step_that_is_none_is_refused(step: Any) -> None:
    with pytest.raises(TrackerError, match="a step is"):
        tracker.save(step, a=1.0)


def test_nan_and_infinities_are_kept(saved: Saved) -> None:
    for step, value in enumerate([math.nan, math.inf, -math.inf]):
        tracker.save(step, x=value)
    points = saved().scalars["x"]
    assert math.isnan(points[0][1])
    assert points[1:] == [(1, math.inf), (2, -math.inf)]


def test_a_tensor_changed_after_add_keeps_the_value_it_had(saved: Saved) -> None:
    tracker.set_histogram("weights")
    weights = torch.ones(100, requires_grad=True)
    array = np.ones(100)
    tracker.add(weights=weights, array=array)
    with torch.no_grad():
        weights.zero_()
    array[:] = 0
    tracker.save(1)
    assert saved().scalars == {"weights": [(1, 1.0)], "array": [(1, 1.0)]}


def test_threads_may_add_at_once(saved: Saved) -> None:
    def add_many() -> None:
        for _ in range(500):
            tracker.add(x=1.0)
            tracker.add(y=torch.tensor(1))

    threads = [threading.Thread(target=add_many) for _ in range(4)]
    tracker.set_histogram("x", 5000)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tracker.save(1)
    assert saved().histograms[0].num == 2000


def test_errors_pickle() -> None:
    import pickle

    with pytest.raises(TrackerError) as caught:
        tracker.add(a=None)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_numbers_too_long_to_be_shown_are_told() -> None:
    with pytest.raises(TrackerError, match="cannot track 'loss', a value of type int"):
        tracker.add(loss=10**5000)
    for step in (10**5000, -(10**5000)):
        with pytest.raises(TrackerError, match="a step is"):
            tracker.save(step, loss=1)


def test_a_metric_may_be_called_self(saved: Saved) -> None:
    tracker.save(1, self=0.5)
    assert saved().scalars == {"self": [(1, 0.5)]}

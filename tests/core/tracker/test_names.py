"""Declarations: wildcards, namespaces, and what contradicts itself."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch

from lab_core import tracker
from lab_core.errors import TrackerError
from lab_core.tracker import Kind, Tracker
from lab_core.writers import MemoryWriter

Saved = Callable[[], MemoryWriter]


def kind_of(current: Tracker, name: str) -> str:
    current.add({name: 1.0})
    return str(current.indicators()[name]["kind"])


def test_an_undeclared_name_is_a_printed_scalar() -> None:
    current = Tracker()
    assert kind_of(current, "x") == "scalar"
    assert current.indicators()["x"]["is_print"]


def test_a_declared_scalar_is_printed_only_when_asked_for() -> None:
    current = Tracker()
    current.declare(Kind.SCALAR, "x")
    current.declare(Kind.SCALAR, "y", is_print=True)
    current.add(x=1.0, y=1.0)
    assert [current.indicators()[n]["is_print"] for n in "xy"] == [False, True]


def test_the_closest_wildcard_decides() -> None:
    current = Tracker()
    current.declare(Kind.HISTOGRAM, "model.*")
    current.declare(Kind.QUEUE, "model.*.bias", 5)
    current.declare(Kind.SCALAR, "model.fc.bias")
    current.declare(Kind.QUEUE, "*", 7)
    assert kind_of(current, "model.conv.weight") == "histogram"
    assert kind_of(current, "model.conv.bias") == "queue"
    assert kind_of(current, "model.fc.bias") == "scalar"
    assert current.indicators()["model.conv.bias"]["window"] == 5
    assert kind_of(current, "else") == "queue"


def test_only_stars_are_wild() -> None:
    current = Tracker()
    current.declare(Kind.QUEUE, "a[0]*", 5)
    assert kind_of(current, "a[0].b") == "queue"
    assert kind_of(current, "a0b") == "scalar"


def test_the_same_declaration_again_is_fine() -> None:
    current = Tracker()
    current.declare(Kind.QUEUE, "x", 5)
    current.add(x=1.0)
    current.declare(Kind.QUEUE, "x", 5, is_print=True)
    assert current.indicators()["x"]["is_print"]


def test_a_declaration_that_contradicts_another_is_refused() -> None:
    current = Tracker()
    current.declare(Kind.QUEUE, "x", 5)
    with pytest.raises(TrackerError, match="'x' is already a queue of 5 values"):
        current.declare(Kind.TEXT, "x")
    with pytest.raises(TrackerError, match="a queue of 6 values"):
        current.declare(Kind.QUEUE, "x", 6)


def test_a_name_in_use_cannot_become_something_else() -> None:
    current = Tracker()
    current.add(x=1.0)
    with pytest.raises(TrackerError, match="already a scalar"):
        current.declare(Kind.HISTOGRAM, "x")


def test_a_name_in_use_keeps_its_window_when_a_closer_wildcard_comes(saved: Saved) -> None:
    tracker.set_queue("q.*", 3)
    tracker.set_histogram("w.*")
    tracker.save(1, {"q.a.b": 1.0})
    tracker.add({"w.a.b": torch.arange(100_000.0)})
    tracker.set_queue("q.a.*", 1, is_print=True)
    tracker.set_histogram("w.a.*", 5)
    tracker.save(2, {"q.a.b": 2.0, "q.a.c": 2.0})
    assert saved().scalars == {
        "q.a.b": [(1, 1.0), (2, 1.5)],
        "w.a.b": [(2, 49_999.5)],
        "q.a.c": [(2, 2.0)],
    }
    assert {h.name: h.num for h in saved().histograms if h.step == 2} == {
        "q.a.b": 2,
        "w.a.b": 100_000,
        "q.a.c": 1,
    }


@pytest.mark.parametrize("size", [0, -1, 1.5, True, "20"])
def test_a_queue_size_that_is_none_is_refused(size: Any) -> None:
    with pytest.raises(TrackerError, match="queue size of 'x'"):
        Tracker().declare(Kind.QUEUE, "x", size)


def test_namespaces_nest_and_are_left_with_an_exception(saved: Saved) -> None:
    with tracker.namespace("train"):
        tracker.add(loss=1.0)
        with contextlib.suppress(ZeroDivisionError), tracker.namespace("inner"):
            tracker.add("loss", 2.0)
            raise ZeroDivisionError
        tracker.set_histogram("grad")
        tracker.add({"grad": [1.0, 2.0]})
    tracker.save(1, loss=3.0)
    kept = saved()
    assert {name: points[0][1] for name, points in kept.scalars.items()} == {
        "train.loss": 1.0,
        "train.inner.loss": 2.0,
        "train.grad": 1.5,
        "loss": 3.0,
    }
    assert [h.name for h in kept.histograms] == ["train.grad"]


def test_a_namespace_is_of_the_thread_that_opened_it(saved: Saved) -> None:
    with tracker.namespace("main"):
        thread = threading.Thread(target=lambda: tracker.add(x=1.0))
        thread.start()
        thread.join()
        tracker.add(x=2.0)
    tracker.save(1)
    assert saved().scalars == {"x": [(1, 1.0)], "main.x": [(1, 2.0)]}


@pytest.mark.parametrize("name", ["", None, 3])
def test_a_namespace_without_a_name_is_refused(name: Any) -> None:
    with pytest.raises(TrackerError), tracker.namespace(name):
        pass


def test_reset_forgets_declarations_and_unsaved_values_only(saved: Saved) -> None:
    tracker.set_queue("x", 2)
    tracker.save(1, x=1.0)
    tracker.add(x=5.0)
    tracker.reset()
    tracker.save(2, x=3.0)
    assert saved().scalars == {"x": [(1, 1.0), (2, 3.0)]}
    assert len(saved().histograms) == 1


def test_names_of_what_the_service_measures_are_refused() -> None:
    current = Tracker()
    with pytest.raises(TrackerError, match=r"'system\.cpu' another name"):
        current.declare(Kind.SCALAR, "system.cpu")
    with pytest.raises(TrackerError, match=r"'system\.cpu' another name"):
        current.add({"loss": 1.0, "system.cpu": 2.0})
    current.save(1, {"system": 1.0, "my.system.cpu": 2.0})
    assert set(current.indicators()) == {"system", "my.system.cpu"}

"""Scalars as TensorBoard events, many at once.

One event of each size is made by TensorBoard's own message; the others are copies of its bytes with
other numbers in their places: the time, the step (a varint) and the values. To make each by itself
takes several times as long, in a thread that shares the interpreter with the training.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from tensorboard.compat.proto.event_pb2 import Event

from lab_core.writers.base import ScalarGroup
from lab_core.writers.records import Octets

Places = npt.NDArray[np.intp]


def blocks(group: ScalarGroup) -> Iterator[Octets]:
    """Yield events of one size each, as uint8 [events, octets], in the order of the rows."""
    names = tuple(column.name for column in group.columns)
    steps = np.asarray(group.steps, np.int64)
    times = np.asarray(group.times, "<f8")
    with np.errstate(over="ignore"):  # what is more than a float32 holds is infinite there
        values = np.asarray([column.values for column in group.columns]).T.astype("<f4", order="C")
    # A varint has 7 bits an octet; one octet for 0.
    sizes = 1 + np.searchsorted(1 << np.arange(7, 63, 7, dtype=np.int64), steps, side="right")
    cuts = [0, *(np.flatnonzero(np.diff(sizes)) + 1).tolist(), len(steps)]
    for i in range(len(cuts) - 1):
        rows = slice(cuts[i], cuts[i + 1])
        size = int(sizes[cuts[i]])
        template = _template(names, size)
        octets = np.repeat(template.octets[None], cuts[i + 1] - cuts[i], axis=0)
        octets[:, template.time] = times[rows, None].view(np.uint8)
        octets[:, template.values] = values[rows].view(np.uint8)
        for k, place in enumerate(template.step):
            more = 0x80 if k < size - 1 else 0
            octets[:, place] = (steps[rows] >> (7 * k)) & 0x7F | more
        yield octets


@dataclass(frozen=True, slots=True)
class _Template:
    """An event, and where its numbers are."""

    octets: Octets
    time: Places
    step: Places
    values: Places


@lru_cache(maxsize=64)
def _template(names: tuple[str, ...], step_size: int) -> _Template:
    low = 1 << 7 * (step_size - 1)
    high = 2 * low + sum(1 << 7 * k for k in range(step_size - 1))
    # Two numbers that differ in each octet: where the events differ is where the number is.
    time_a, time_b = np.frombuffer(b"\x11" * 8 + b"\x22" * 8, "<f8").tolist()
    value_a, value_b = np.frombuffer(b"\x11" * 4 + b"\x22" * 4, "<f4").tolist()
    first = _octets(names, time_a, low, value_a)
    return _Template(
        octets=first,
        time=np.flatnonzero(first != _octets(names, time_b, low, value_a)),
        step=np.flatnonzero(first != _octets(names, time_a, high, value_a)),
        values=np.flatnonzero(first != _octets(names, time_a, low, value_b)),
    )


def _octets(names: tuple[str, ...], time_s: float, step: int, value: float) -> Octets:
    event = Event(wall_time=time_s, step=step)
    for name in names:
        event.summary.value.add(tag=name, simple_value=value)
    return np.frombuffer(event.SerializeToString(), np.uint8)

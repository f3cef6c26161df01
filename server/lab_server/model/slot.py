"""Slots: the places in which runs train, and how a setting names them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from lab_core.errors import SettingsError

MAX_SLOTS = 1024

_PART = re.compile(r"cpu(?::(?P<num>\d{1,4}))?|(?P<gpu>cuda:\d{1,3})(?:\*(?P<shares>\d{1,3}))?")
_SYNTAX = "use cpu:N for N runs at once, or cuda:0,cuda:1*2 for GPUs, *N for N runs on one"


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in which one run can train.

    Attributes:
        name: unique, such as "cpu:0", "cuda:1" or, of two shares of one GPU, "cuda:0#1".
        device: "cpu" or "cuda:N".
    """

    name: str
    device: str


def parse_slots(text: str) -> tuple[Slot, ...]:
    """Return the slots that a text such as "cpu:2" or "cuda:0,cuda:1*2" stands for.

    Raises:
        SettingsError: If the text is not valid, or names no slot, too many, or one twice.
    """
    slots: list[Slot] = []
    for part in text.replace(" ", "").split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise SettingsError(f"{part!r} is not a slot; {_SYNTAX}")
        device = match["gpu"] or "cpu"
        if any(slot.device == device for slot in slots):
            raise SettingsError(f"{device} is named twice in {text!r}; {_SYNTAX}")
        num = int(match["shares"] or match["num"] or 1)
        if device == "cpu":
            names = [f"cpu:{index}" for index in range(num)]
        else:
            names = [device] if num == 1 else [f"{device}#{index}" for index in range(num)]
        slots += [Slot(name, device) for name in names[: MAX_SLOTS + 1]]
    if not 0 < len(slots) <= MAX_SLOTS:
        raise SettingsError(f"{text!r}: there must be 1 to {MAX_SLOTS} slots; {_SYNTAX}")
    return tuple(slots)


def num_threads_each(num_slots: int) -> int:
    """Return a trainer's share of the CPU threads that this process may use."""
    return max(1, len(os.sched_getaffinity(0)) // max(1, num_slots))

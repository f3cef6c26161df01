"""Slots: the places in which runs train, and which of them are taken."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence

from lab_core.errors import ConfigError, SettingsError, Violation
from lab_server.executors.protocol import Slot

MAX_SLOTS = 1024

_PART = re.compile(r"cpu(?::(?P<num>\d{1,4}))?|(?P<gpu>cuda:\d{1,3})(?:\*(?P<shares>\d{1,3}))?")
_SYNTAX = "say cpu:N for N runs at once, or cuda:0,cuda:1*2 for GPUs, *N for N runs on one"


def parse_slots(text: str) -> tuple[Slot, ...]:
    """Return the slots that a text such as "cpu:2" or "cuda:0,cuda:1*2" stands for.

    Raises:
        SettingsError: If it is not such a text, or names no slot, too many, or one twice.
    """
    slots: list[Slot] = []
    for part in text.replace(" ", "").split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise SettingsError(f"{part!r} is no kind of slot; {_SYNTAX}")
        device = match["gpu"] or "cpu"
        if any(slot.device == device for slot in slots):
            raise SettingsError(f"{device} stands twice in {text!r}; {_SYNTAX}")
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
    return max(1, len(os.sched_getaffinity(0)) // num_slots)


class SlotTable:
    """Which run has which slot. The supervisor owns it."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        self._slots = tuple(slots)
        self._runs: dict[str, str] = {}

    def __iter__(self) -> Iterator[tuple[Slot, str]]:
        """Yield each slot with the id of the run that has it, "" when it is free."""
        for slot in self._slots:
            yield slot, self._runs.get(slot.name, "")

    @property
    def num_threads(self) -> int:
        """How many threads each trainer gets."""
        return num_threads_each(len(self._slots))

    def find_free(self, device: str) -> Slot | None:
        """Return a free slot for a device request, None when there is none now."""
        for slot in self._slots:
            if slot.name not in self._runs and fits(slot, device):
                return slot
        return None

    def take(self, name: str, run_id: str) -> Slot | None:
        """Give a slot to a run; None when the server has no such slot (any more), or it is taken."""
        for slot in self._slots:
            if slot.name == name and self._runs.get(name, run_id) == run_id:
                self._runs[name] = run_id
                return slot
        return None

    def release(self, run_id: str) -> None:
        """Free what the run has."""
        self._runs = {name: owner for name, owner in self._runs.items() if owner != run_id}

    def check(self, device: str) -> None:
        """Refuse a device request that no slot will ever fulfil.

        Raises:
            ConfigError: With what there is.
        """
        if not any(fits(slot, device) for slot in self._slots):
            devices = ", ".join(dict.fromkeys(slot.device for slot in self._slots))
            message = f"this server has no slot on device {device!r}; it has {devices}"
            raise ConfigError([Violation("options.device", message)])


def fits(slot: Slot, device: str) -> bool:
    """Whether a run that asks for a device may have the slot: "" takes any, "cuda" any GPU."""
    return device in ("", slot.device, slot.device.partition(":")[0])

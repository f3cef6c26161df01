"""Slots: the places in which runs train, and how a setting names them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from lab_core.errors import SettingsError

MAX_SLOTS = 1024

_PART = re.compile(r"cpu(?::(?P<num>\d{1,4}))?|(?P<gpu>cuda:\d{1,3})(?:\*(?P<shares>\d{1,3}))?")
_SYNTAX = "use cpu:N for N runs at once, or cuda:0,cuda:1*2 for GPUs, *N for N runs on one"

NO_SLOTS = "none"
"""The setting of a server that trains on its agents only."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in which one run can train.

    Attributes:
        name: unique, such as "cpu:0", "cuda:1" or, of two shares of one GPU, "cuda:0#1"; on an agent
            "pool/agent/cuda:1".
        device: "cpu" or "cuda:N".
        pool: of the agent that has it, "" for the server's own.
        takes_uploads: whether code that clients sent may run there.
    """

    name: str
    device: str
    pool: str = ""
    takes_uploads: bool = True


@dataclass(frozen=True, slots=True)
class Wants:
    """What a run needs of its slot.

    Attributes:
        device: "cpu", "cuda" or "cuda:N"; "" takes any.
        pool: the pool; "" takes any slot, also the server's own.
        experiment: what it runs.
        code_digest: of the experiment's code that it was planned with; "" for any.
        is_upload: whether its experiment is in code that a client sent; not every agent runs such.
    """

    device: str = ""
    pool: str = ""
    experiment: str = ""
    code_digest: str = ""
    is_upload: bool = False

    def fit(self, slot: Slot) -> bool:
        """Whether it may ever have the slot."""
        return self.fits_but_for_code(slot) and (slot.takes_uploads or not self.is_upload)

    def fits_but_for_code(self, slot: Slot) -> bool:
        """Whether it may have the slot if it takes the code that clients send."""
        kinds = ("", slot.device, slot.device.partition(":")[0])
        return self.device in kinds and self.pool in ("", slot.pool)


def device_of(slot_name: str) -> str:
    """Return the device of a slot, "cpu" or "cuda:N", that may be on an agent that is away."""
    device = slot_name.rpartition("/")[2].partition("#")[0]
    return "cpu" if device.startswith("cpu") else device


def agent_of(slot_name: str) -> str:
    """Return the name of the agent that has a slot, "" for the server's own slots."""
    return slot_name.split("/")[1] if slot_name.count("/") == 2 else ""


def pool_of(slot_name: str) -> str:
    """Return the pool of the agent that has a slot, "" for the server's own slots."""
    return slot_name.split("/")[0] if slot_name.count("/") == 2 else ""


def parse_slots(text: str) -> tuple[Slot, ...]:
    """Return the slots that a text such as "cpu:2", "cuda:0,cuda:1*2" or "none" stands for.

    Raises:
        SettingsError: If the text is not valid, or names no slot, too many, or one twice.
    """
    if text.strip() == NO_SLOTS:
        return ()
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

"""The machine's GPUs, as the slots see them: counted through NVML, which needs neither torch nor CUDA."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from lab_server.model.slot import Slot


def default_slots() -> str:
    """Return a slot for every GPU that a trainer would see, or one on the CPU."""
    return ",".join(f"cuda:{index}" for index in range(num_gpus())) or "cpu:1"


def missing_gpus(slots: Sequence[Slot]) -> str:
    """Return a clause on the slots whose GPU is missing, "" when all exist; CPU slots need no driver."""
    wanted = sorted({int(s.device[5:]) for s in slots if s.device.startswith("cuda:")})
    if not wanted:
        return ""
    num = num_gpus()
    missing = [f"cuda:{index}" for index in wanted if index >= num]
    if not missing:
        return ""
    there = ("no GPU", "one GPU, cuda:0")[num] if num < 2 else f"GPUs 0 to {num - 1}"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    because = "" if hidden is None else f" with CUDA_VISIBLE_DEVICES={hidden!r}"
    return f"names {', '.join(missing)}, but this machine has {there}{because}"


def num_gpus() -> int:
    """Return how many GPUs a trainer would see; as CUDA does, numbers count up to the first wrong one."""
    num = _num_installed()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None or not num:
        return num
    num_visible = 0
    for part in visible.split(","):
        name = part.strip()
        # anything else is a UUID, of a GPU or of a part of one
        if not name or name.startswith("-") or (name.isdecimal() and int(name) >= num):
            break
        num_visible += 1
    return num_visible


def _num_installed() -> int:
    with contextlib.suppress(Exception):  # NVML's own errors, an absent or foreign library
        import pynvml

        pynvml.nvmlInit()
        return int(pynvml.nvmlDeviceGetCount())
    # a container may have the GPUs without the library that counts them
    return len([path for path in Path("/dev").glob("nvidia*") if path.name[6:].isdecimal()])

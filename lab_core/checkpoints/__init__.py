"""Checkpoints of a run: a folder each, written whole or not at all, checked when read.

A checkpoint is ``checkpoints/<step>/``: one file per model and optimizer, ``state.pt`` for the rest,
and ``manifest.json`` with the sha256 of each. It is written under a temporary name, synced, and
renamed, so whatever stands under a step's name was once complete. Loading unpickles nothing but
tensors and plain data. Importing this module does not import torch.
"""

from lab_core.checkpoints._files import (
    Checkpoint,
    exists,
    find,
    latest_good,
    list_checkpoints,
    load,
    remove_after,
    save,
    verify,
)
from lab_core.checkpoints._retention import KeepBest, Retention

__all__ = [
    "Checkpoint",
    "KeepBest",
    "Retention",
    "exists",
    "find",
    "latest_good",
    "list_checkpoints",
    "load",
    "remove_after",
    "save",
    "verify",
]

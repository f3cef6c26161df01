"""Random number generators that are items of the configs, as what has a state: beside the global ones of a process."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Mapping
from typing import Any


class OwnGenerator:
    """A generator of torch, numpy or Python with a state dict, as models have it."""

    def __init__(self, get: Callable[[], Any], put: Callable[[Any], object]) -> None:
        self._get = get
        self._put = put

    def state_dict(self) -> dict[str, Any]:
        """Return its state as plain data or a tensor."""
        return {"state": self._get()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self._put(state["state"])


def own_generator(value: object) -> OwnGenerator | None:
    """Return what gives and takes the state of a generator; None of anything else."""
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if torch is not None and isinstance(value, torch.Generator):
        return OwnGenerator(value.get_state, value.set_state)
    if numpy is not None and isinstance(value, numpy.random.Generator):
        bits = value.bit_generator
        return OwnGenerator(lambda: bits.state, lambda state: setattr(bits, "state", state))
    if numpy is not None and isinstance(value, numpy.random.RandomState):
        return OwnGenerator(lambda: value.get_state(legacy=False), value.set_state)
    if isinstance(value, random.Random) and not isinstance(value, random.SystemRandom):
        return OwnGenerator(value.getstate, value.setstate)
    return None

"""What a checkpoint of a run holds, taken from the run and put back into it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from lab_core.checkpoints._rng import rng_state, set_rng_state
from lab_core.errors import CheckpointError
from lab_core.loop import Loop
from lab_core.tracker import Tracker

# no name that an item can have
REST = "_run"
_NAME = re.compile(r"[A-Za-z][\w.-]*")


@runtime_checkable
class Stateful(Protocol):
    """A model, an optimizer, a scheduler: what torch saves by a state dict."""

    def state_dict(self) -> Any:
        """Return the state."""

    def load_state_dict(self, state: Any, /) -> Any:
        """Take the state."""


def find_stateful(
    computed: Mapping[str, object], added: Mapping[str, object]
) -> dict[str, Stateful]:
    """Return what has a state, by name, each once: what was added, then what the configs computed."""
    found: dict[str, Stateful] = {}
    seen: set[int] = set()
    for name, value in (*added.items(), *computed.items()):
        is_new = id(value) not in seen and name not in found
        # a class has the methods too
        if is_new and isinstance(value, Stateful) and not isinstance(value, type):
            if not _NAME.fullmatch(name):
                raise CheckpointError(f"{name!r} cannot name a file of a checkpoint")
            seen.add(id(value))
            found[name] = value
    return found


def capture(stateful: Mapping[str, Stateful], loop: Loop, tracker: Tracker) -> dict[str, Any]:
    """Return everything that a run needs in order to go on, by the file it goes to."""
    states: dict[str, Any] = {name: value.state_dict() for name, value in stateful.items()}
    states[REST] = {
        "step": loop.step,
        "positions": loop.positions(),
        "rng": rng_state(),
        "tracker": tracker.state_dict(),
    }
    return states


class Restorer:
    """Puts a checkpoint back into a run, in two goes.

    At the start of the run: the step, the position, and whatever exists already. At the place where
    the checkpoint was taken: what was only made on the way there, and the random number generators,
    which the way there has used.
    """

    def __init__(self, states: Mapping[str, Any], loop: Loop, tracker: Tracker) -> None:
        self._states = {name: state for name, state in states.items() if name != REST}
        self._rest: dict[str, Any] = states[REST]
        self._loop = loop
        self._tracker = tracker

    @property
    def step(self) -> int:
        """The global step of the checkpoint."""
        return int(self._rest["step"])

    @property
    def saved_step(self) -> int:
        """The last step of which something was saved before the checkpoint; -1 for none.

        Not the checkpoint's own step: a loop that saves before it counts its step measures that
        one again.
        """
        return int(self._rest["tracker"]["saved_step"])

    @property
    def missing(self) -> list[str]:
        """Names of what is in the checkpoint and was not put back yet."""
        return sorted(self._states)

    def begin(self, stateful: Mapping[str, Stateful]) -> None:
        """Restore what exists at the start of the run."""
        self._load(stateful)
        positions = self._rest["positions"]
        self._loop.resume(self.step, positions)
        if not positions["active"]:
            self._restore_rest()  # it was taken outside of every loop: it is here already

    def arrive(self, stateful: Mapping[str, Stateful]) -> None:
        """Restore the rest where the checkpoint was taken.

        Raises:
            CheckpointError: If something that the checkpoint has does not exist.
        """
        self._load(stateful)
        if self._states:
            names = ", ".join(self.missing)
            raise CheckpointError(
                f"the checkpoint of step {self.step} has {names}, but nothing of that name was "
                f"computed or added; it is of another experiment"
            )
        if self._rest["positions"]["active"]:
            self._restore_rest()

    def _restore_rest(self) -> None:
        self._tracker.load_state_dict(self._rest["tracker"])
        set_rng_state(self._rest["rng"])

    def _load(self, stateful: Mapping[str, Stateful]) -> None:
        for name, value in stateful.items():
            if name not in self._states:
                continue
            state = self._states.pop(name)
            try:
                value.load_state_dict(state)
            except Exception as error:
                # torch raises RuntimeError, ValueError, KeyError, ... for a state of another shape
                raise CheckpointError(
                    f"the checkpoint of step {self.step} does not fit {name!r}: {error}"
                ) from error

"""Where a run is in its loops and loaders, and where a resumed one has yet to come.

Owned by the run's ``Loop``, and thus by the thread that runs the training code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from lab_core.errors import CheckpointError


def nothing_to_train(step: int, total: int) -> str:
    """Return the error message for a checkpoint at or after the end of the run."""
    return (
        f"the checkpoint is at step {step}, the run ends at step {total}: nothing to train; the end is "
        "counted from step 0, so set a later one: more epochs, a larger loop_count"
    )


_Position = tuple[str, dict[str, Any]]
"""The name of a resumable iteration, and the position in it."""


class Resumable(Protocol):
    """An iteration that a checkpoint can be saved within: a training loop, a loader."""

    name: str

    def position(self, *, is_innermost: bool) -> dict[str, Any]:
        """Return the position as plain data, from which the iteration can be resumed.

        Args:
            is_innermost: there is no resumable iteration inside this one.
        """


class Counter(Protocol):
    """The run's step, and the step at which it ends, if known."""

    step: int
    total_steps: int | None


class Place:
    """The iterations in progress, those that have ended, and those that a resumed run is on its way to.

    Args:
        counter: of the run.

    Attributes:
        is_entered: a resumed run has entered the outermost of the loops that it is on its way to.
    """

    def __init__(self, counter: Counter) -> None:
        self.is_entered = False
        self._counter = counter
        self._active: list[Resumable] = []
        # for each level of nesting, the loaders that are finished within the current iteration
        self._finished: list[list[str]] = [[]]
        self._ended: list[_Position] = []
        self._pending: list[_Position] = []
        self._pending_finished: list[list[str]] = []
        self._pending_ended: list[_Position] = []

    @property
    def depth(self) -> int:
        """How many iterations are in progress, each within the one before."""
        return len(self._active)

    @property
    def has_finished_loader(self) -> bool:
        """Whether a loader has ended within an iteration that is in progress."""
        return any(self._finished[1 : len(self._active)])

    @property
    def unreached(self) -> str:
        """The position that a resumed run has not reached yet, as text; "" once it has."""
        waiting = self._pending or self._pending_ended
        return f"{waiting[-1][0]!r}" if waiting else ""

    # -- in checkpoints ------------------------------------------------------------------------

    def positions(self) -> dict[str, Any]:
        """Return the positions of all iterations in progress, as plain data for a checkpoint."""
        last = len(self._active) - 1
        active = [(r.name, r.position(is_innermost=i == last)) for i, r in enumerate(self._active)]
        # only of the iterations that are entered again; the innermost one is complete
        finished = [list(names) for names in self._finished[1 : len(self._active)]]
        return {"active": active, "finished": finished, "ended": list(self._ended)}

    def resume(self, positions: Mapping[str, Any]) -> None:
        """Set the positions that the next iterations resume at."""
        self._pending = list(positions.get("active", ()))
        self._pending_finished = [list(names) for names in positions.get("finished", ())]
        self._pending_ended = list(positions.get("ended", ()))

    # -- asked by loops and loaders, before they begin -----------------------------------------

    def skip_finished(self, name: str) -> bool:
        """Return whether `name` was finished at the checkpoint, within the resumed iteration."""
        here = self._pending_here()
        if name not in here:
            return False
        here.remove(name)
        self._finished[-1].append(name)
        return True

    def pending(self, name: str) -> dict[str, Any] | None:
        """Return the position that `name` will resume at, None if it starts from the beginning."""
        if self._pending_ended or not self._pending or name in self._pending_here():
            return None
        # the outermost comes first: its like before it, or outside of it, is another one
        next_name, position = self._pending[0]
        return position if next_name == name else None

    def pass_ended(self, name: str, end: int) -> dict[str, Any] | None:
        """Return where a loop ended that is entered again on the way to a checkpoint after it.

        None if the checkpoint was not taken after it. A loop that is not the last one to be passed is
        to be left at once: its position is at its end.

        Args:
            name: of the loop.
            end: the value or step at which it ends now.

        Raises:
            CheckpointError: If it is another loop, or goes on further than then, with others after it.
        """
        if self._active or not self._pending_ended:
            return None
        ended_name, position = self._pending_ended[0]
        if ended_name != name:
            raise self.lost(f"came to {name!r} instead")
        self._pending_ended.pop(0)
        if self.unreached:
            self._ended.append((ended_name, position))
            if end > max(position["end"], position["next"]):
                raise CheckpointError(
                    f"the loop {name!r} had ended at {position['end']} before the checkpoint of step "
                    f"{self._counter.step} was taken in what comes after it, and cannot go on to {end} now"
                )
        return position

    # -- told by loops and loaders -------------------------------------------------------------

    def enter(self, resumable: Resumable) -> None:
        """Take in an iteration that begins.

        Raises:
            CheckpointError: If a resumed run can no longer reach the position of its checkpoint.
        """
        is_next = self.pending(resumable.name) is not None
        if self.unreached and self._active and not is_next:
            raise self.lost(f"came to {resumable.name!r} instead")
        if is_next:
            self._pending.pop(0)
            self.is_entered = True
        self._active.append(resumable)
        self._finished.append([])

    def arrive(self) -> None:
        """Take in that a resumed run has come to where its checkpoint was taken."""
        self._pending_finished = []

    def start_iteration(self) -> None:
        """Reset the finished loaders at the start of an iteration."""
        self._finished[-1].clear()

    def leave(self, resumable: Resumable) -> None:
        """Take in that an iteration is over."""
        self._active.remove(resumable)
        self._finished.pop()
        self._finished[-1].append(resumable.name)

    def note_end(self, name: str, position: dict[str, Any]) -> None:
        """Record the end position of a loop, for checkpoints saved after it."""
        if not self._active:
            self._ended.append((name, position))

    def lost(self, what: str) -> CheckpointError:
        """Return the error of a resumed run that does not come to the position of its checkpoint.

        Args:
            what: the run did instead.
        """
        step, total = self._counter.step, self._counter.total_steps
        if total is not None and step >= total:
            return CheckpointError(nothing_to_train(step, total))
        return CheckpointError(
            f"the checkpoint of step {step} was taken in {self.unreached}, but the run {what}; was a "
            "loader or a loop renamed or taken out?"
        )

    def _pending_here(self) -> list[str]:
        level = len(self._active) - 1
        return self._pending_finished[level] if 0 <= level < len(self._pending_finished) else []

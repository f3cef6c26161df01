"""In which order, and from which random numbers, a run computed the items of its configs.

A checkpoint keeps this, so that a resumed run computes them from the same ones, wherever they are
first read: the data, a split, the first weights are the same again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lab_core.checkpoints._rng import Snapshot
from lab_core.configs import BaseConfigs


@dataclass(slots=True)
class Made:
    """The computation of one item.

    Attributes:
        parent: the item in whose computation it was read first, None if code outside of items did.
        before, after: the generators around it.
        drawn: the generators that it drew from or seeded itself, beside the items that it read.
    """

    parent: str | None
    before: Snapshot
    after: Snapshot
    drawn: frozenset[str] = frozenset()


@dataclass(slots=True)
class History:
    """What was computed, in the order in which it began; and the generators at the run's start."""

    items: dict[str, Made] = field(default_factory=dict)
    start: Snapshot | None = None

    def to_plain(self) -> dict[str, Any]:
        """Return it as plain data and tensors; states that are one object are kept once."""
        states: list[Snapshot] = []
        places: dict[int, int] = {}

        def place(state: Snapshot) -> int:
            if id(state) not in places:
                places[id(state)] = len(states)
                states.append(state)
            return places[id(state)]

        items = {
            key: [made.parent, place(made.before), place(made.after), sorted(made.drawn)]
            for key, made in self.items.items()
        }
        start = None if self.start is None else place(self.start)
        return {"items": items, "start": start, "states": [state.to_plain() for state in states]}

    @classmethod
    def from_plain(cls, data: Mapping[str, Any]) -> History:
        """Return what ``to_plain`` made plain."""
        states = [Snapshot.from_plain(state) for state in data["states"]]
        items = {
            key: Made(parent, states[before], states[after], frozenset(drawn))
            for key, (parent, before, after, drawn) in data["items"].items()
        }
        return cls(items, None if data["start"] is None else states[data["start"]])


@dataclass(slots=True, eq=False)
class _Frame:
    """A computation in progress: its last known state of the generators."""

    key: str
    last: Snapshot


class _Progress(threading.local):
    """The computations in progress in this thread, the innermost last."""

    def __init__(self) -> None:
        self.frames: list[_Frame] = []
        self.noted: Any = None


class Recorder:
    """Observes the computation of items: records it, or repeats what a checkpoint has recorded.

    Each thread has its own computations in progress. The generators are the process's: what threads
    draw at the same time is recorded, but nobody can repeat it.

    Args:
        before: called before each computation that is no part of another one in its thread.
        after: called after it, with what `before` returned.

    Attributes:
        history: of this run.
    """

    def __init__(self, before: Callable[[], Any], after: Callable[[Any], object]) -> None:
        self.history = History()
        self._before = before
        self._after = after
        self._known = History()
        self._conf: BaseConfigs | None = None
        self._progress = _Progress()
        self._ahead: dict[str, Any] = {}
        self._now: Snapshot | None = None

    def watch(self, conf: BaseConfigs) -> None:
        """Observe the items of these configs from now on."""
        self._conf = conf
        conf._lab_state.observer = self

    def expect(self, history: History) -> None:
        """Let each item that is still to be computed start as it did in this history."""
        self._known = history

    def differing(self) -> list[str]:
        """Return items that drew other random numbers here than in the history to be repeated."""
        found = []
        for key, made in self.history.items.items():
            known = self._known.items.get(key)
            if known is not None and (
                # an equal end of unequal beginnings is a seed
                made.drawn
                & made.before.differences(known.before)
                & made.after.differences(known.after)
            ):
                found.append(key)
        return found

    def compute_ahead(self, wanted: Iterable[str]) -> None:
        """Compute what the history has and this run has not yet, leaving it to be read later.

        The generators are left as the history's run had them at its start.

        Args:
            wanted: items to compute after those.
        """
        if self._conf is None:
            self._begin_like(self._known.start)
            return
        state = self._conf._lab_state
        before = set(state.values)
        for key, made in self._known.items.items():
            # what only another item read is computed by that one, should it still want it
            if made.parent is None and key in state.spec.sources and key not in state.values:
                state.read(key)
        for key in wanted:
            if key in state.spec.sources:
                state.read(key)
        for key in [key for key in state.values if key not in before]:
            self._ahead[key] = state.values.pop(key)
        self._begin_like(self._known.start)

    def note_start(self) -> None:
        """Record the generators at the start of a run that begins anew."""
        self.history.start = self._snapshot()

    def release(self) -> None:
        """Give out all that was computed ahead: from here on nothing is repeated."""
        if self._conf is not None:
            self._conf._lab_state.values.update(self._ahead)
        self._ahead.clear()
        self._known = History()

    def ahead(self) -> dict[str, Any]:
        """Return what was computed ahead and not read yet."""
        return dict(self._ahead)

    # -- as the observer of the configs ----------------------------------------------------------

    def holds(self, key: str) -> bool:
        """Say whether an item was computed ahead and not read yet."""
        return key in self._ahead

    def recall(self, key: str) -> bool:
        """Hand out an item computed ahead, and leave the generators as its computation had left them."""
        if key not in self._ahead:
            return False
        assert self._conf is not None
        values = self._conf._lab_state.values
        for name in self._with_parts(key):
            values[name] = self._ahead[name]
            del self._ahead[name]
        made = self.history.items.get(key)
        if made is not None:
            made.after.restore()
        return True

    def begin(self, key: str) -> None:
        """Note, or set, the generators as a computation begins."""
        progress = self._progress
        if not progress.frames:
            progress.noted = self._before()
        now = self._snapshot()
        parent = progress.frames[-1] if progress.frames else None
        if parent is not None:
            self.history.items[parent.key].drawn |= now.differences(parent.last)
        known = self._known.items.get(key)
        if known is not None and known.before is not now:
            known.before.restore()
            now = self._now = known.before
        self.history.items[key] = Made(parent.key if parent else None, now, now)
        progress.frames.append(_Frame(key, now))

    def end(self, key: str, is_done: bool) -> None:
        """Note the generators as a computation ends."""
        progress = self._progress
        frame = progress.frames.pop()
        now = self._snapshot()
        made = self.history.items[key]
        made.after = now
        made.drawn |= now.differences(frame.last)
        if progress.frames:
            progress.frames[-1].last = now
        if not is_done:
            del self.history.items[key]
        if not progress.frames:
            noted, progress.noted = progress.noted, None
            self._after(noted)

    # -- inside ----------------------------------------------------------------------------------

    def _snapshot(self) -> Snapshot:
        """Return the generators' states: the same object as long as nothing is drawn."""
        now = Snapshot.take()
        last = self._now
        if last is not None and not now.differences(last):
            return last
        self._now = now
        return now

    def _begin_like(self, start: Snapshot | None) -> None:
        if start is not None:
            start.restore()
        self.history.start = start if start is not None else self._snapshot()

    def _with_parts(self, key: str) -> Iterable[str]:
        """Return the item and what was computed ahead within its computation."""
        found = [key]
        for name in found:
            found += [
                other
                for other, made in self.history.items.items()
                if made.parent == name and other in self._ahead
            ]
        return found

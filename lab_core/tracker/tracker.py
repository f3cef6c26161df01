"""The tracker object: takes values on the training thread, and hands them to writers off it.

What the training thread pays for is here: `add` checks and keeps, `save` appends one record to a
list. Everything else happens in the worker's thread. `_lock` guards what was added and not saved;
`_taking` guards the aggregator and its windows.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Self

from lab_core.errors import TrackerError
from lab_core.tracker import steps
from lab_core.tracker import values as held
from lab_core.tracker.aggregate import Aggregator, Entry, Record
from lab_core.tracker.forms import checked_step, named_values
from lab_core.tracker.indicators import Indicator, Kind, Registry, checked_name
from lab_core.tracker.pace import Pace
from lab_core.tracker.rows import RowKeeper
from lab_core.tracker.worker import Worker
from lab_core.writers.base import HparamValue, RowWriter, Writer
from lab_core.writers.lanes import Lanes

_log = logging.getLogger(__name__)

INTERVAL_S = 0.2
CLOSE_TIMEOUT_S = 10.0
_MAX_BACKLOG = 100_000
_ROOM_S = 1.0  # so long a save waits for a writer that has no room for its row

_HOLDERS: Mapping[Kind, Callable[[str, object], list[Any]]] = {
    Kind.SCALAR: held.numbers,
    Kind.QUEUE: held.numbers,
    Kind.HISTOGRAM: held.spread,
    Kind.INDEXED: held.indexed,
    Kind.TEXT: held.texts,
    Kind.IMAGE: held.images,
}

# Of all trackers: a namespace belongs to the code that opened it, not to a thread or a tracker.
_prefix: ContextVar[str] = ContextVar("lab_tracker_namespace", default="")


class Tracker:
    """Collects a run's metrics, and passes them to writers in batches, off the training thread.

    Without writers it needs no thread: it checks what it is given, and remembers the last values.

    Args:
        writers: who gets the batches.
        interval_s: the longest time between two batches while metrics come fast; after a pause the next
            one comes at once.
        get_step: what `save()` without a step takes; the loop's global step unless given.
        on_failure: called, once for each writer, with its name and its first error.

    Example:
        >>> tracker = Tracker()
        >>> tracker.add(loss=0.5)
        >>> tracker.save(1)
        >>> tracker.last_values()
        {'loss': 0.5}
    """

    def __init__(
        self,
        writers: Sequence[Writer] = (),
        *,
        interval_s: float = INTERVAL_S,
        get_step: Callable[[], int] = steps.global_step,
        on_failure: Callable[[str, BaseException], None] | None = None,
    ) -> None:
        self._writer = Lanes(writers, on_failure)
        self._get_step = get_step
        self._lock = threading.RLock()  # a signal handler may track something too
        self._taking = threading.Lock()
        self._hparams: Mapping[str, HparamValue] = {}
        self._status = "completed"
        self._records: deque[Record] = deque()
        self._truncate_after: int | None = None
        self._worker: Worker | None = None
        self._is_begun = False
        self._is_closed = False
        self._is_done = False  # closed, and the writers have all: what comes now is only remembered
        self._interval_s = interval_s
        self._row_writer = next((w for w in writers if isinstance(w, RowWriter)), None)
        self._num_rows = 0
        self._is_crowded = False
        self._set_fresh()

    def reset(self) -> None:
        """Remove all declarations and all unsaved values; writers keep what they have."""
        with self._lock, self._taking:
            self._aggregator.take(self._pop_records())
            unwritten = self._aggregator
            self._set_fresh()
            self._aggregator.inherit(unwritten)

    def _set_fresh(self) -> None:
        self._saved_step = -1
        self._registry = Registry()
        self._pending: dict[str, Entry] = {}
        self._numeric: set[str] = set()
        self._aggregator = Aggregator(self._registry)
        writer = self._row_writer
        self._keeper = RowKeeper(writer, self._registry) if writer is not None else None

    # -- what is tracked ---------------------------------------------------------------------------

    def declare(
        self, kind: Kind, name: str, window: int | None = None, is_print: bool = False
    ) -> None:
        """Say what `name`, or every name that the pattern `name` matches, is.

        Raises:
            TrackerError: If it is already something else.
        """
        with self._lock:
            full = _prefix.get() + name if isinstance(name, str) and name else name
            self._registry.declare(Indicator(full, kind, window, is_print))
            self._numeric.clear()  # of names that were never kept, some may now be something else

    def add(self, /, *args: Any, **named: Any) -> None:
        """Add values: `add(loss=x)`, `add("loss", x)` or `add({"loss": x})`.

        Raises:
            TrackerError: If one of them cannot be tracked; then none is added.
        """
        values = named_values(args, named) if args else named
        prefix = _prefix.get()
        numeric = self._numeric
        numbers = []
        for name, value in values.items():
            full = f"{prefix}{name}" if prefix else name
            number = value if type(value) is float else held.quick_number(value)
            if number is None or full not in numeric or type(name) is not str:
                break
            numbers.append((full, number))
        else:  # the common case: numbers, under names that were seen before
            with self._lock:
                pending = self._pending
                for full, number in numbers:
                    entry = pending.get(full)
                    if entry is None:
                        pending[full] = [None, number]
                    else:
                        entry[0] = None
                        entry.append(number)
            return
        entries = self._check(prefix, values)
        with self._lock:
            self._keep(entries)

    def save(self, /, *args: Any, step: int | None = None, **named: Any) -> None:  # noqa: C901  # each step calls it: no calls within
        """Write the values added since the last save, and those given: `save([step], ...)`.

        Everything stands at `step`; without one, at the global step, or, for what is left from an
        earlier iteration, at the global step at the end of that one.

        Raises:
            TrackerError: If the step is none, or a value cannot be tracked.
        """
        if args and not isinstance(args[0], (str, Mapping)):
            if step is not None:
                raise TrackerError(f"save got two steps, {args[0]!r} and {step!r}")
            step, args = args[0], args[1:]
            if step is None:
                raise TrackerError("save got None for a step; leave it out for the global step")
        is_given = step is not None
        at = checked_step(step) if is_given else self._get_step()
        if args or named:
            self.add(*args, **named)
        now = time.time()
        is_kept = True
        with self._lock:
            pending = self._pending
            if pending:
                self._pending = {}
                if is_given:
                    for entry in pending.values():
                        entry[0] = None
                self._num_rows += 1
                if self._keeper is not None:
                    is_kept = self._keeper.keep(self._num_rows, at, now, pending)
                self._records.append((at, now, pending))
                self._saved_step = max(self._saved_step, at)
        steps.activity()
        worker = self._worker
        if worker is None:
            if self._is_done or not self._writer.writers:
                self._take()
        elif worker.is_idle:
            worker.notify()
        elif len(self._records) > _MAX_BACKLOG:
            # Slower than lost, and sooner than out of memory: the writers cannot follow.
            worker.flush(1.0)
        if not is_kept:
            self._wait_for_room()

    def _flush(self, timeout_s: float, only: Writer | None = None) -> bool:
        worker = self._worker
        if worker is None:
            return not self._records
        deadline = time.monotonic() + timeout_s
        return worker.flush(timeout_s) and self._writer.flush(deadline - time.monotonic(), only)

    def _wait_for_room(self) -> None:
        """Let the writer of rows have what was saved: a row that it had no room for is in a batch."""
        writer = self._row_writer
        is_written = self._flush(_ROOM_S, writer)
        if writer is not None and not is_written and not self._is_crowded:
            _log.warning(
                "the %s writer stays behind; what is saved now is lost if this process dies",
                writer.name,
            )
        self._is_crowded = not is_written

    def settle(self) -> None:
        """Mark the end of an iteration: values added but not saved get the current step."""
        if self._pending:
            at = self._get_step()
            with self._lock:
                for entry in self._pending.values():
                    if entry[0] is None:
                        entry[0] = at

    def new_line(self) -> None:
        """Keep the current values as a line on the console, once they are written."""
        if self._writer.writers:
            self._records.append((self._get_step(), 0.0, None))
        if self._worker is not None:
            self._worker.notify()

    @contextmanager
    def namespace(self, name: str) -> Iterator[None]:
        """Prefix every name that is used inside with `name.`; namespaces nest."""
        if not isinstance(name, str) or not name:
            raise TrackerError(f"a namespace's name must be a non-empty string, got {name!r}")
        token = _prefix.set(f"{_prefix.get()}{name}.")
        try:
            yield
        finally:
            _prefix.reset(token)

    # -- a run's life ------------------------------------------------------------------------------

    def start(self, hparams: Mapping[str, HparamValue] | None = None) -> None:
        """Start writing; values saved before are written first. May be called again."""
        if self._worker is not None or self._is_closed:
            return
        self._hparams = dict(hparams or {})
        if not self._writer.writers:
            return
        pace = Pace(self._interval_s)
        worker = Worker(self._write, lambda: bool(self._records), self._finish, pace)
        self._writer.start()
        worker.start()
        self._worker = worker
        worker.notify()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.close(status="completed" if error is None else "failed")

    def flush(self, timeout_s: float = CLOSE_TIMEOUT_S) -> bool:
        """Wait until the writers have all that was saved; return whether they do.

        A writer that fails is waited for no longer than one more try takes.
        """
        return self._flush(timeout_s)

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S, status: str = "completed") -> bool:
        """Save the remaining values and close the writers; return whether they finished in time."""
        if self._is_closed:
            return True
        if self._pending:
            self.save()
        self._is_closed = True
        worker, self._worker = self._worker, None
        if worker is None:
            self._take()
            return True
        self._status = status
        deadline = time.monotonic() + timeout_s
        is_taken = worker.close(timeout_s)
        late = self._writer.close(deadline - time.monotonic())
        self._is_done = is_taken and not late
        if not self._is_done:
            names = ", ".join(late or (w.name for w in self._writer.writers))
            _log.warning(
                "the writers (%s) did not finish in %g s and are left behind", names, timeout_s
            )
        return self._is_done

    def truncate(self, after_step: int) -> None:
        """Delete all points after a step from writers that keep history. Call before `start`."""
        self._truncate_after = after_step

    # -- what is known -----------------------------------------------------------------------------

    @property
    def writers(self) -> tuple[Writer, ...]:
        """The writers that get the batches."""
        return self._writer.writers

    def last_values(self) -> dict[str, float]:
        """Return the last saved value of every scalar."""
        self._take()
        with self._taking:
            return self._aggregator.last_values()

    def indicators(self) -> dict[str, dict[str, Any]]:
        """Return the indicators declared or in use, as plain data for `indicators.yaml`."""
        with self._lock:
            return {
                name: {"kind": i.kind.value, "window": i.window, "is_print": i.is_print}
                for name, i in sorted(self._registry.listing().items())
            }

    def state_dict(self) -> dict[str, Any]:
        """Return windows and unsaved values as plain data for a checkpoint."""
        self._take()
        with self._lock, self._taking:
            return {
                "windows": {name: list(w) for name, w in self._aggregator.windows.items()},
                "pending": held.to_plain(self._pending),
                "last": self._aggregator.last_values(),
                "last_steps": self._aggregator.steps_of_last_values(),
                "saved_step": self._saved_step,
            }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state of `state_dict`; indicators must be declared again."""
        with self._lock, self._taking:
            # not in checkpoints of earlier versions
            last_steps = state.get("last_steps", {})
            self._aggregator.restore(state["windows"], state["last"], last_steps)
            self._pending = held.from_plain(state["pending"])
            self._saved_step = state["saved_step"]
            if self._keeper is not None:
                self._keeper.restore(state["windows"])

    # -- inside ------------------------------------------------------------------------------------

    def _check(self, prefix: str, values: Mapping[str, Any]) -> dict[str, Entry]:
        """Return the values as entries under their full names, having changed nothing that shows."""
        entries: dict[str, Entry] = {}
        numeric = []
        for name, value in values.items():
            full = prefix + checked_name(name)
            indicator = self._registry.peek(full)
            kind = indicator.kind
            hold = held.numbers if indicator.window is not None else _HOLDERS[kind]
            entries[full] = [None, *hold(full, value)]
            if kind.is_numeric:
                numeric.append(full)
        self._numeric.update(numeric)
        return entries

    def _keep(self, entries: dict[str, Entry]) -> None:
        pending = self._pending
        for name, entry in entries.items():
            self._registry.resolve(name)
            known = pending.get(name)
            if known is None:
                pending[name] = entry
            else:
                known[0] = None
                known.extend(entry[1:])

    def _pop_records(self) -> list[Record]:
        records = self._records
        return [records.popleft() for _ in range(len(records))]

    def _take(self) -> None:
        """Move saved records into the batch under construction. From any thread."""
        with self._taking:
            records = self._pop_records()
            if records:
                self._aggregator.take(records)
            if self._is_done or not self._writer.writers:
                self._aggregator.batch()

    def _begin(self) -> None:
        self._is_begun = True
        if self._truncate_after is not None:
            self._writer.truncate(self._truncate_after)
        self._writer.write_hparams(self._hparams)

    def _write(self) -> bool:
        """Write all saved values. Runs in the worker's thread."""
        if not self._is_begun:
            self._begin()
        try:
            with self._taking:
                self._aggregator.take(self._pop_records())
                batch, lines = self._aggregator.batch(), self._aggregator.lines()
        except Exception:  # a device that failed, say: the training itself will say so better
            _log.exception("values that were tracked are lost")
            return True
        for step, values in lines:
            self._writer.new_line(step, values)
        if batch is not None:
            self._writer.write(batch)
        return batch is not None or bool(lines)

    def _finish(self) -> None:
        self._writer.write_end(self._status, self._aggregator.last_values())

"""All writers of a tracker, each in a lane of its own: none waits for another, or fails with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from lab_core.writers.base import (
    Batch,
    HparamsWriter,
    HparamValue,
    LineWriter,
    TruncatingWriter,
    Writer,
)
from lab_core.writers.lane import Lane, log_failure


class Lanes:
    """Hands everything to every writer, and returns at once.

    Args:
        writers: any number of them.
        on_failure: called, once for each writer, with its name and its first error; the default
            logs it.
    """

    def __init__(
        self,
        writers: Sequence[Writer],
        on_failure: Callable[[str, BaseException], None] | None = None,
    ) -> None:
        self.writers = tuple(writers)
        self._lanes = [Lane(writer, on_failure or log_failure) for writer in writers]

    def start(self) -> None:
        """Start the threads."""
        for lane in self._lanes:
            lane.start()

    def write(self, batch: Batch) -> None:
        """Give a batch to each writer."""
        for lane in self._lanes:
            lane.put(partial(lane.writer.write, batch), batch)

    def write_hparams(self, hparams: Mapping[str, HparamValue]) -> None:
        """Give the hyper-parameters to each writer that wants them."""
        for lane in self._lanes:
            if isinstance(lane.writer, HparamsWriter):
                lane.put(partial(lane.writer.write_hparams, hparams))

    def write_end(self, status: str, final_metrics: Mapping[str, float]) -> None:
        """Pass the final status to each writer that takes it."""
        for lane in self._lanes:
            if isinstance(lane.writer, HparamsWriter):
                lane.put(partial(lane.writer.write_end, status, final_metrics))

    def truncate(self, after_step: int) -> None:
        """Truncate each writer that keeps history after a step."""
        for lane in self._lanes:
            if isinstance(lane.writer, TruncatingWriter):
                lane.put(partial(lane.writer.truncate, after_step))

    def new_line(self, step: int, values: Mapping[str, float]) -> None:
        """Let each writer that shows lines keep one."""
        for lane in self._lanes:
            if isinstance(lane.writer, LineWriter):
                lane.put(partial(lane.writer.new_line, step, values))

    def flush(self, timeout_s: float, only: Writer | None = None) -> bool:
        """Wait until the writers, or only one of them, have all; return whether they do."""
        deadline = time.monotonic() + timeout_s
        # each is waited for, or at least hurried, whatever became of the one before
        done = [
            lane.flush(deadline - time.monotonic())
            for lane in self._lanes
            if only in (None, lane.writer)
        ]
        return all(done)

    def close(self, timeout_s: float) -> tuple[str, ...]:
        """Let the writers finish; return the names of those that did not in time."""
        deadline = time.monotonic() + timeout_s
        for lane in self._lanes:
            lane.close(0.0)
        return tuple(
            lane.writer.name for lane in self._lanes if not lane.close(deadline - time.monotonic())
        )

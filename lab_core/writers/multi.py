"""Several writers as one, each apart from the others' failures."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from lab_core.writers.base import (
    Batch,
    HparamsWriter,
    HparamValue,
    LineWriter,
    TruncatingWriter,
    Writer,
)

_log = logging.getLogger(__name__)


class MultiWriter:
    """Gives every batch to every writer. A writer that raises is reported once, and tried again.

    Args:
        writers: any number of them.
        on_failure: called with the writer's name and its first error; the default logs it.
    """

    name = "multi"

    def __init__(
        self,
        writers: Sequence[Writer],
        on_failure: Callable[[str, BaseException], None] | None = None,
    ) -> None:
        self.writers = tuple(writers)
        self._on_failure = on_failure or _log_failure
        self._failed: set[int] = set()

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of the writers that have failed so far."""
        return tuple(w.name for i, w in enumerate(self.writers) if i in self._failed)

    def write(self, batch: Batch) -> None:
        """Give the batch to each writer."""
        self._each(lambda writer: writer.write(batch))

    def write_hparams(self, hparams: Mapping[str, HparamValue]) -> None:
        """Give the hyper-parameters to each writer that wants them."""
        self._each(lambda w: w.write_hparams(hparams) if isinstance(w, HparamsWriter) else None)

    def write_end(self, status: str, final_metrics: Mapping[str, float]) -> None:
        """Tell each writer that wants it how the run ended."""
        self._each(
            lambda w: w.write_end(status, final_metrics) if isinstance(w, HparamsWriter) else None
        )

    def truncate(self, after_step: int) -> None:
        """Let each writer that keeps history forget what came after a step."""
        self._each(lambda w: w.truncate(after_step) if isinstance(w, TruncatingWriter) else None)

    def new_line(self, step: int, values: Mapping[str, float]) -> None:
        """Let each writer that shows lines keep one."""
        self._each(lambda w: w.new_line(step, values) if isinstance(w, LineWriter) else None)

    def close(self) -> None:
        """Close each writer."""
        self._each(lambda writer: writer.close())

    def _each(self, call: Callable[[Writer], None]) -> None:
        for i, writer in enumerate(self.writers):
            try:
                call(writer)
            except Exception as error:
                if i not in self._failed:
                    self._failed.add(i)
                    self._report(writer.name, error)

    def _report(self, name: str, error: BaseException) -> None:
        try:
            self._on_failure(name, error)
        except Exception:
            _log.exception("reporting a failure of the %s writer failed", name)


def _log_failure(name: str, error: BaseException) -> None:
    _log.warning(
        "the %s writer failed, the training goes on without what it lost: %s: %s",
        name,
        type(error).__name__,
        error,
    )

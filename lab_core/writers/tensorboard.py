"""Metrics for TensorBoard: event files of its own messages, written in batches."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from lab_core.errors import SettingsError
from lab_core.writers.base import Batch, HparamValue

if TYPE_CHECKING:
    from lab_core.writers.records import RecordFile

_counter = itertools.count()  # two files of one process in one second differ by it


class TensorboardWriter:
    """Writes scalars, histograms, images, texts and hyper-parameters for TensorBoard.

    Scalars are float32 there, as TensorBoard has them. An indexed scalar becomes a histogram.

    Args:
        folder: where the event file goes; made at the first write.
    """

    name = "tensorboard"

    def __init__(self, folder: Path | str) -> None:
        self._folder = Path(folder)
        self._file: RecordFile | None = None
        self._purge_step: int | None = None

    def write(self, batch: Batch) -> None:
        """Append a batch as events."""
        self._append(_events().of_batch(batch))

    def write_hparams(self, hparams: Mapping[str, HparamValue]) -> None:
        """Write the hyper-parameters, as the start of a session of the HPARAMS tab."""
        if hparams:
            self._append(_events().session_start(hparams))

    def write_end(
        self,
        status: str,
        final_metrics: Mapping[str, float],  # noqa: ARG002
    ) -> None:
        """Write the end of the session; the tab takes every scalar's last value by itself."""
        if self._file is not None:
            self._append(_events().session_end(status))

    def truncate(self, after_step: int) -> None:
        """Let TensorBoard forget what this folder's earlier files have after a step."""
        self._purge_step = after_step + 1

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _append(self, data: bytes) -> None:
        if self._file is None:
            self._file = self._create()
        self._file.append(data)

    def _create(self) -> RecordFile:
        events = _events()
        with _named_extra():
            from lab_core.writers.records import RecordFile

        self._folder.mkdir(parents=True, exist_ok=True)
        now = time.time()
        name = f"events.out.tfevents.{now:010.0f}.{socket.gethostname()}.{os.getpid()}.{next(_counter)}"
        path = self._folder / name
        file = RecordFile(path)
        begin = events.version(now)
        if self._purge_step is not None:
            begin += events.restart(self._purge_step)
        try:
            file.append(begin)
        except OSError:
            # it is tried again with each batch, and each time by another name
            file.close()
            path.unlink(missing_ok=True)
            raise
        return file


def _events() -> ModuleType:
    """Import what needs tensorboard, only when there is something to write."""
    with _named_extra():
        from lab_core.writers import events
    return events


@contextlib.contextmanager
def _named_extra() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise SettingsError(
            f"the tensorboard writer needs tensorboard ({error}): pip install 'lab-train[core]'"
        ) from error

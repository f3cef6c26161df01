"""The handle to a run, blocking."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from lab_client.configs import Plan
from lab_client.errors import LabError
from lab_client.events import Checkpoint, Event, LogLevel, LogLine, MetricsBatch, Point
from lab_client.history import History
from lab_client.media import IndexedValues, TrackedHistogram, TrackedImage, TrackedText
from lab_client.protocol import folds, fork_operations, media, operations
from lab_client.protocol.calls import CallSequence, Operation
from lab_client.protocol.download import Download
from lab_client.protocol.handle import RunHandle
from lab_client.protocol.models import model_path
from lab_client.protocol.pages import Pages
from lab_client.protocol.signatures import takes_rest
from lab_client.protocol.streams import EventStream, Fold, T
from lab_client.runs import Artifact, RunInfo, RunState
from lab_client.sync.shell import SyncShell
from lab_client.views.notebook import run_html
from lab_client.views.progress import ProgressView, make_view


class Run(RunHandle):
    """A handle to a run of the server; the run does not depend on it.

    Its iterators go through any number of reconnects: nothing is left out and nothing comes twice.
    With `follow=False` they end with what there is now.

    Example:
        >>> from lab_client import Client
        >>> with Client() as client:  # doctest: +SKIP
        ...     run = client.create("mnist", {"dataset": "mnist_5k", "epochs": 1}).start()
        ...     for point in run.metrics(names="*_loss", every=50):
        ...         print(point.step, point.values)
        ...     print(run.history()["accuracy"].values[-1])
    """

    def __init__(self, shell: SyncShell, info: RunInfo) -> None:
        super().__init__(info)
        self._shell = shell

    def refresh(self) -> RunInfo:
        """Ask the server how the run is now, and return that."""
        self._info = self._shell.call(operations.get(self.id))
        return self._info

    @property
    def state(self) -> RunState:
        """The state, asked from the server unless the run had ended already."""
        return self._info.state if self._info.state.is_terminal else self.refresh().state

    def start(self, *, until_step: int | None = None) -> Run:
        """Queue the run and return it.

        Args:
            until_step: save and stop it at the first step boundary from this step on; `resume` goes
                on, bit for bit as if it had not been stopped. A run that ends there is COMPLETED.

        Raises:
            InvalidState: if it was started before.
            QueueFull: if too many runs wait already.
        """
        operation = operations.queue(self.id, resume=False, until_step=until_step)
        self._info = self._shell.call(operation)
        return self

    def resume(self, *, until_step: int | None = None) -> Run:
        """Queue the stopped or failed run again, from its last checkpoint, and return it.

        Raises:
            InvalidState: if it cannot be resumed, or is at `until_step` already.
        """
        operation = operations.queue(self.id, resume=True, until_step=until_step)
        self._info = self._shell.call(operation)
        return self

    def stop(self, *, checkpoint: bool = False, grace_s: float | None = None) -> Run:
        """Ask the run to stop and return it; `wait` tells when it has. See `Client.stop`."""
        operation = operations.stop(self.id, checkpoint=checkpoint, grace_s=grace_s)
        self._info = self._shell.call(operation)
        return self

    def save_checkpoint(self, *, timeout_s: float | None = 60.0) -> int:
        """Have the run save a checkpoint at its next step boundary, and return its step.

        The checkpoint is one as all: it can be downloaded, resumed from and forked.

        Raises:
            InvalidState: if it does not train, or ends before it has saved one.
            DeadlineExceeded: if it has saved none in time; it is still to.
        """
        self._info = self._shell.call(operations.save_checkpoint(self.id))
        for event in self.events(after_seq=self._info.last_seq, timeout_s=timeout_s):
            if isinstance(event.body, Checkpoint) and not event.body.damage:
                self.refresh()
                return event.body.step
        raise self._not_saved()

    @takes_rest(fork_operations.plan_fork, "id")
    def plan_fork(self, calls: CallSequence[Plan]) -> Plan:
        """Return what a fork's configs resolve to, with its first and last step; run nothing.

        Raises:
            ConfigError: as `fork` does.
        """
        return self._shell.call_all(calls)

    @takes_rest(fork_operations.fork, "id")
    def fork(self, calls: CallSequence[RunInfo]) -> Run:
        """Start a new run from a checkpoint of this one. See `Client.fork`."""
        return Run(self._shell, self._shell.call_all(calls))

    @takes_rest(operations.update, "id")
    def update(self, operation: Operation[RunInfo]) -> Run:
        """Change the run's name, tags or notes and return it. See `Client.update`."""
        self._info = self._shell.call(operation)
        return self

    def delete(self) -> None:
        """Delete the run, which has to have ended, with all its files."""
        self._shell.call(operations.delete(self.id))

    def events(
        self, *, after_seq: int = 0, follow: bool = True, timeout_s: float | None = None
    ) -> Iterator[Event]:
        """Yield every event: the history after a seq, then live, up to the run's end."""
        return self._stream(folds.to_events, after_seq, follow, timeout_s)

    def metrics(
        self,
        names: Iterable[str] | None = None,
        every: int = 1,
        *,
        after_seq: int = 0,
        follow: bool = True,
        timeout_s: float | None = None,
    ) -> Iterator[Point]:
        """Yield what was measured, step by step: the history, then live.

        A step whose metrics are saved at different times yields a point for each time. When an
        attempt resumes from a checkpoint, the steps after it come again, with a higher `attempt`;
        `history` never has a step twice.

        Args:
            names: globs of the wanted metrics, one or several; None wants all that the run tracks. What
                it uses of its machine is "system.*".
            every: keep at most one value of each metric in this many steps.
            after_seq: begin after this event.
            follow: False ends with what there is now.
            timeout_s: how long the run may take to end.
        """
        return self._stream(self._point_fold(names, every), after_seq, follow, timeout_s)

    def batches(
        self, *, after_seq: int = 0, follow: bool = True, timeout_s: float | None = None
    ) -> Iterator[MetricsBatch]:
        """Yield what was measured by columns, as it was recorded: the fastest way to read a run."""
        return self._stream(folds.to_batches, after_seq, follow, timeout_s)

    def logs(
        self,
        *,
        level: LogLevel | str = LogLevel.DEBUG,
        after_seq: int = 0,
        follow: bool = True,
        timeout_s: float | None = None,
    ) -> Iterator[LogLine]:
        """Yield the lines that the trainer logged or printed.

        Args:
            level: leave out less serious lines: "stderr" yields what went to standard error, warnings
                and errors included.
            after_seq: begin after this event.
            follow: False ends with what there is now.
            timeout_s: how long the run may take to end.
        """
        return self._stream(folds.LineFold(level), after_seq, follow, timeout_s)

    def _stream(
        self, fold: Fold[T], after_seq: int, follow: bool, timeout_s: float | None
    ) -> Iterator[T]:
        if self._needs_refresh(after_seq, follow):
            self.refresh()
        stream = self._event_stream(fold, after_seq, follow)
        return iter(()) if stream is None else self._read(stream, timeout_s)

    def _read(self, stream: EventStream[T], timeout_s: float | None) -> Iterator[T]:
        yield from self._shell.read(stream, timeout_s)
        if stream.end is not None:  # `info` must not stay behind what was read
            try:
                self.refresh()
            except LabError:  # all that was asked for has been read: no reason to fail now
                self._note_end(stream.end)

    def wait(
        self, timeout_s: float | None = None, *, progress: bool = False, check: bool = False
    ) -> RunInfo:
        """Wait for the run's end and return how it is then.

        Args:
            timeout_s: the longest wait; None waits as long as it takes.
            progress: show a bar, or plain lines where there is no terminal.
            check: raise when it ends in another state than COMPLETED.

        Raises:
            InvalidState: if the run was never started.
            DeadlineExceeded: if it does not end in time; the run goes on.
            RunFailed: if `check` and it did not complete.
        """
        self.refresh()
        if self._must_end():
            with make_view(progress, self._info) as view:
                self.show_progress(view, timeout_s)
            self.refresh()
        return self._ended(check)

    def show_progress(self, view: ProgressView, timeout_s: float | None = None) -> None:
        """Give a view what happens from now to the run's end, and tell it when the server does not answer.

        Args:
            view: is updated with every event.
            timeout_s: how long the run may take to end.
        """

        def look_at_queue() -> None:  # how far it has come there is no event
            if view.state == RunState.QUEUED:
                with suppress(LabError):
                    view.waits(self.refresh().reason)

        last_seq = self._info.last_seq
        stream = EventStream(self.id, last_seq, folds.to_events, on_heartbeat=look_at_queue)
        on_no_answer = partial(view.no_answer, self._shell.address)
        for event in self._shell.read(stream, timeout_s, on_no_answer):
            view.update(event)

    @takes_rest(operations.query_metrics, "id")
    def history(self, operation: Operation[History]) -> History:
        """Return the metrics so far, as columns; no step comes twice. See `Client.query_metrics`."""
        return self._shell.call(operation)

    def plot(self, names: Iterable[str] = (), *, max_points: int = 2000) -> Any:
        """Draw the metrics so far and return the matplotlib figure.

        Args:
            names: globs of the wanted metrics; none draws all but the indicators of single
                parameters, such as "model.conv1.weight".
            max_points: the most points for each metric, downsampled.
        """
        found = self.history(names, max_points=max_points)
        return found.plot(tuple(found) if names else None)

    @takes_rest(media.of_kind(TrackedImage), "id")
    def images(self, pages: Pages[TrackedImage]) -> Iterator[TrackedImage]:
        """Yield the images that the run tracked, so far, as PNG.

        The log takes the first ones of a name one by one and thins later ones; see `TrackedImage`.

        Args:
            names: globs of the wanted names, one or several; None wants all.
            min_step: the first step.
            max_step: the last step.
        """
        return self._shell.items(pages)

    @takes_rest(media.of_kind(TrackedText), "id")
    def texts(self, pages: Pages[TrackedText]) -> Iterator[TrackedText]:
        """Yield the texts that the run tracked, so far. See `images`."""
        return self._shell.items(pages)

    @takes_rest(media.of_kind(TrackedHistogram), "id")
    def histograms(self, pages: Pages[TrackedHistogram]) -> Iterator[TrackedHistogram]:
        """Yield the histograms that the run tracked, so far. See `images`."""
        return self._shell.items(pages)

    @takes_rest(media.of_kind(IndexedValues), "id")
    def indexed(self, pages: Pages[IndexedValues]) -> Iterator[IndexedValues]:
        """Yield the indexed values that the run tracked, so far. See `images`."""
        return self._shell.items(pages)

    def artifacts(self) -> tuple[Artifact, ...]:
        """Return the files of the run."""
        return self._shell.call(operations.artifacts(self.id))

    def download(self, path: str, to: str | os.PathLike[str] | None = None) -> Path:
        """Download a file of the run. See `Client.download`."""
        return self._shell.download(Download(self.id, path, to))

    def download_model(self, name: str = "model", to: str | os.PathLike[str] | None = None) -> Path:
        """Download the state of a model from the run's newest checkpoint, and return the file.

        A run saves one at its end. Read it with `torch.load(path, weights_only=True)`.

        Args:
            name: of the config item that is the model, or optimizer.
            to: the file to write, or a folder to write it into; None is the working folder.

        Raises:
            CheckpointNotFound: if the run has no checkpoint.
            ArtifactNotFound: if the checkpoint has no such model.
        """
        return self.download(model_path(self.id, self.artifacts(), name), to)

    def download_all(self, to: str | os.PathLike[str]) -> tuple[Path, ...]:
        """Download all files of the run into a folder, in the same subfolders."""
        return tuple(self.download(item.path, item.below(to)) for item in self.artifacts())

    def _repr_html_(self) -> str:
        try:
            return run_html(self.refresh(), self.history(max_points=100))
        except LabError:  # a notebook shows what was known last when the server is gone
            return run_html(self._info, History(self.id, {}))

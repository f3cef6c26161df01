"""The handle to a run, for asyncio."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from lab_client.aio.shell import AsyncShell
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
from lab_client.views.notebook import run_html
from lab_client.views.progress import ProgressView, make_view


class AsyncRun(RunHandle):
    """A run of the server, with the methods of `Run`; `await run.state` asks for the state.

    Example:
        >>> from lab_client import AsyncClient
        >>> async def watch(run_id: str) -> None:
        ...     async with AsyncClient() as client:
        ...         run = await client.run(run_id)
        ...         async for point in run.metrics(names="accuracy"):
        ...             print(point.step, point.values["accuracy"])
        ...         print((await run.wait()).state)
    """

    def __init__(self, shell: AsyncShell, info: RunInfo) -> None:
        super().__init__(info)
        self._shell = shell

    async def refresh(self) -> RunInfo:
        """Ask the server how the run is now, and return that."""
        self._info = await self._shell.call(operations.get(self.id))
        return self._info

    @property
    def state(self) -> Awaitable[RunState]:
        """The state, to be awaited: asked from the server unless the run had ended already."""
        return self._state()

    async def _state(self) -> RunState:
        return self._info.state if self._info.state.is_terminal else (await self.refresh()).state

    async def start(self, *, until_step: int | None = None) -> AsyncRun:
        """Queue the run and return it. See `Run.start`."""
        operation = operations.queue(self.id, resume=False, until_step=until_step)
        self._info = await self._shell.call(operation)
        return self

    async def resume(self, *, until_step: int | None = None) -> AsyncRun:
        """Queue the stopped or failed run again and return it. See `Run.resume`."""
        operation = operations.queue(self.id, resume=True, until_step=until_step)
        self._info = await self._shell.call(operation)
        return self

    async def stop(self, *, checkpoint: bool = False, grace_s: float | None = None) -> AsyncRun:
        """Ask the run to stop and return it. See `Run.stop`."""
        operation = operations.stop(self.id, checkpoint=checkpoint, grace_s=grace_s)
        self._info = await self._shell.call(operation)
        return self

    async def save_checkpoint(self, *, timeout_s: float | None = 60.0) -> int:
        """Have the run save a checkpoint, and return its step. See `Run.save_checkpoint`."""
        self._info = await self._shell.call(operations.save_checkpoint(self.id))
        async for event in self.events(after_seq=self._info.last_seq, timeout_s=timeout_s):
            if isinstance(event.body, Checkpoint) and not event.body.damage:
                await self.refresh()
                return event.body.step
        raise self._not_saved()

    @takes_rest(fork_operations.plan_fork, "id")
    async def plan_fork(self, calls: CallSequence[Plan]) -> Plan:
        """Return what a fork's configs resolve to, with its first and last step; run nothing.

        Raises:
            ConfigError: as `fork` does.
        """
        return await self._shell.call_all(calls)

    @takes_rest(fork_operations.fork, "id")
    async def fork(self, calls: CallSequence[RunInfo]) -> AsyncRun:
        """Start a new run from a checkpoint of this one. See `Client.fork`."""
        return AsyncRun(self._shell, await self._shell.call_all(calls))

    @takes_rest(operations.update, "id")
    async def update(self, operation: Operation[RunInfo]) -> AsyncRun:
        """Change the run's name, tags or notes and return it. See `Client.update`."""
        self._info = await self._shell.call(operation)
        return self

    async def delete(self) -> None:
        """Delete the run, which has to have ended, with all its files."""
        await self._shell.call(operations.delete(self.id))

    def events(
        self, *, after_seq: int = 0, follow: bool = True, timeout_s: float | None = None
    ) -> AsyncIterator[Event]:
        """Yield every event, up to the run's end. See `Run.events`."""
        return self._stream(folds.to_events, after_seq, follow, timeout_s)

    def metrics(
        self,
        names: Iterable[str] | None = None,
        every: int = 1,
        *,
        after_seq: int = 0,
        follow: bool = True,
        timeout_s: float | None = None,
    ) -> AsyncIterator[Point]:
        """Yield what was measured, step by step. See `Run.metrics`."""
        return self._stream(self._point_fold(names, every), after_seq, follow, timeout_s)

    def batches(
        self, *, after_seq: int = 0, follow: bool = True, timeout_s: float | None = None
    ) -> AsyncIterator[MetricsBatch]:
        """Yield what was measured by columns. See `Run.batches`."""
        return self._stream(folds.to_batches, after_seq, follow, timeout_s)

    def logs(
        self,
        *,
        level: LogLevel | str = LogLevel.DEBUG,
        after_seq: int = 0,
        follow: bool = True,
        timeout_s: float | None = None,
    ) -> AsyncIterator[LogLine]:
        """Yield the lines that the trainer logged or printed. See `Run.logs`."""
        return self._stream(folds.LineFold(level), after_seq, follow, timeout_s)

    async def _stream(
        self, fold: Fold[T], after_seq: int, follow: bool, timeout_s: float | None
    ) -> AsyncIterator[T]:
        if self._needs_refresh(after_seq, follow):
            await self.refresh()
        stream = self._event_stream(fold, after_seq, follow)
        if stream is not None:
            async for item in self._shell.read(stream, timeout_s):
                yield item
            if stream.end is not None:  # `info` must not stay behind what was read
                try:
                    await self.refresh()
                except LabError:  # all that was asked for has been read: no reason to fail now
                    self._note_end(stream.end)

    async def wait(
        self, timeout_s: float | None = None, *, progress: bool = False, check: bool = False
    ) -> RunInfo:
        """Wait for the run's end and return how it is then. See `Run.wait`."""
        await self.refresh()
        if self._must_end():
            with make_view(progress, self._info) as view:
                await self.show_progress(view, timeout_s)
            await self.refresh()
        return self._ended(check)

    async def show_progress(self, view: ProgressView, timeout_s: float | None = None) -> None:
        """Give a view what happens from now to the run's end. See `Run.show_progress`."""
        stream = EventStream(self.id, self._info.last_seq, folds.to_events)
        on_no_answer = partial(view.no_answer, self._shell.address)
        async for event in self._shell.read(stream, timeout_s, on_no_answer):
            view.update(event)

    @takes_rest(operations.query_metrics, "id")
    async def history(self, operation: Operation[History]) -> History:
        """Return the metrics so far, as columns. See `Client.query_metrics`."""
        return await self._shell.call(operation)

    async def plot(self, names: Iterable[str] = (), *, max_points: int = 2000) -> Any:
        """Draw the metrics so far and return the matplotlib figure. See `Run.plot`."""
        found = await self.history(names, max_points=max_points)
        return found.plot(tuple(found) if names else None)

    @takes_rest(media.of_kind(TrackedImage), "id")
    def images(self, pages: Pages[TrackedImage]) -> AsyncIterator[TrackedImage]:
        """Yield the images that the run tracked, so far, as PNG. See `Run.images`."""
        return self._shell.items(pages)

    @takes_rest(media.of_kind(TrackedText), "id")
    def texts(self, pages: Pages[TrackedText]) -> AsyncIterator[TrackedText]:
        """Yield the texts that the run tracked, so far. See `Run.texts`."""
        return self._shell.items(pages)

    @takes_rest(media.of_kind(TrackedHistogram), "id")
    def histograms(self, pages: Pages[TrackedHistogram]) -> AsyncIterator[TrackedHistogram]:
        """Yield the histograms that the run tracked, so far. See `Run.histograms`."""
        return self._shell.items(pages)

    @takes_rest(media.of_kind(IndexedValues), "id")
    def indexed(self, pages: Pages[IndexedValues]) -> AsyncIterator[IndexedValues]:
        """Yield the indexed values that the run tracked, so far. See `Run.indexed`."""
        return self._shell.items(pages)

    async def artifacts(self) -> tuple[Artifact, ...]:
        """Return the files of the run."""
        return await self._shell.call(operations.artifacts(self.id))

    async def download(self, path: str, to: str | os.PathLike[str] | None = None) -> Path:
        """Download a file of the run. See `Client.download`."""
        return await self._shell.download(Download(self.id, path, to))

    async def download_model(
        self, name: str = "model", to: str | os.PathLike[str] | None = None
    ) -> Path:
        """Download a model from the run's newest checkpoint. See `Run.download_model`."""
        return await self.download(model_path(self.id, await self.artifacts(), name), to)

    async def download_all(self, to: str | os.PathLike[str]) -> tuple[Path, ...]:
        """Download all files of the run into a folder, in the same subfolders."""
        return tuple(
            [await self.download(item.path, item.below(to)) for item in await self.artifacts()]
        )

    def _repr_html_(self) -> str:
        return run_html(self._info, History(self.id, {}))  # no awaiting here: what was known last

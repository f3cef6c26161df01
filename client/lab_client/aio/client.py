"""The client for asyncio: the twin of `Client`, on the same operations and streams."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType

from lab_client.aio.experiment import AsyncExperiment
from lab_client.aio.run import AsyncRun
from lab_client.aio.search import AsyncSearch
from lab_client.aio.shell import AsyncShell
from lab_client.configs import ExperimentInfo, Plan
from lab_client.events import Event, MetricsUpdate
from lab_client.history import History
from lab_client.protocol import folds, fork_operations, operations, search_operations, streams
from lab_client.protocol.calls import CallSequence, Operation
from lab_client.protocol.code_diff import CodeDiff
from lab_client.protocol.download import Download
from lab_client.protocol.pages import Pages
from lab_client.protocol.signatures import takes
from lab_client.protocol.upload import ExperimentSource, as_source, with_code
from lab_client.runs import Artifact, Dashboard, RunInfo, ServerInfo
from lab_client.searches import SearchInfo
from lab_client.transport.base import BaseClient


class AsyncClient(BaseClient[AsyncShell]):
    """A connection to a lab-server for asyncio, with the methods of `Client`.

    It belongs to the event loop in which it makes its first call. Arguments and errors are those
    of `Client`; what is an iterator there is an async iterator here.

    Example:
        >>> import asyncio
        >>> from lab_client import AsyncClient
        >>> async def main() -> None:
        ...     async with AsyncClient("localhost:50051") as client:
        ...         run = await client.create("mnist", {"dataset": "mnist_5k", "epochs": 1})
        ...         await run.start()
        ...         async for point in run.metrics(names="train_loss"):
        ...             print(point.step, point.values)
        >>> asyncio.run(main())  # doctest: +SKIP
    """

    _open_shell = AsyncShell

    async def close(self) -> None:
        """Close the connection; open streams end with an error."""
        await self._shell.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def server_info(self) -> ServerInfo:
        """Return the server's version, slots and queue. See `Client.server_info`."""
        return await self._shell.call(operations.server_info())

    async def dashboard(self) -> Dashboard:
        """Return where the dashboard is, with a code that opens one session. See `Client.dashboard`."""
        return await self._shell.call(operations.dashboard())

    async def wait_ready(self, timeout_s: float = 30.0) -> ServerInfo:
        """Wait for a server that is starting. See `Client.wait_ready`."""
        return await self._shell.check_server(timeout_s)

    async def experiments(self) -> tuple[ExperimentInfo, ...]:
        """Return the experiments that the server can run. See `Client.experiments`."""
        return await self._shell.call(operations.experiments())

    async def experiment(self, name: ExperimentSource) -> AsyncExperiment:
        """Return a handle to an experiment. See `Client.experiment`."""
        source = as_source(name)
        found = await self._shell.call_all(with_code(source, operations.experiment))
        return AsyncExperiment(self._shell, *found, source)

    @takes(operations.plan)
    async def plan(self, calls: CallSequence[Plan]) -> Plan:
        """Resolve a config message without running anything. See `Client.plan`."""
        return await self._shell.call_all(calls)

    @takes(operations.create)
    async def create(self, calls: CallSequence[RunInfo]) -> AsyncRun:
        """Create a run, which does not start yet. See `Client.create`."""
        return AsyncRun(self._shell, await self._shell.call_all(calls))

    async def start(
        self, run_id: str, *, resume: bool = False, until_step: int | None = None
    ) -> RunInfo:
        """Queue a created run, or resume an ended one. See `Client.start`."""
        operation = operations.queue(run_id, resume=resume, until_step=until_step)
        return await self._shell.call(operation)

    async def get(self, run_id: str) -> RunInfo:
        """Return a run as it is now. See `Client.get`."""
        return await self._shell.call(operations.get(run_id))

    async def run(self, run_id: str) -> AsyncRun:
        """Attach to a run, from anywhere. See `Client.run`."""
        return AsyncRun(self._shell, await self.get(run_id))

    @takes(operations.list_runs)
    async def runs(self, pages: Pages[RunInfo]) -> AsyncIterator[AsyncRun]:
        """Yield the runs for which all filters hold. See `Client.runs`."""
        async for info in self._shell.items(pages):
            yield AsyncRun(self._shell, info)

    @takes(operations.count_runs)
    async def count_runs(self, operation: Operation[int]) -> int:
        """Return the number of runs for which all filters hold. See `Client.count_runs`."""
        return await self._shell.call(operation)

    @takes(operations.update)
    async def update(self, operation: Operation[RunInfo]) -> RunInfo:
        """Change a run's name, tags or notes. See `Client.update`."""
        return await self._shell.call(operation)

    async def delete(self, run_id: str) -> None:
        """Delete a run that has ended, with all its files. See `Client.delete`."""
        await self._shell.call(operations.delete(run_id))

    async def stop(
        self, run_id: str, *, checkpoint: bool = False, grace_s: float | None = None
    ) -> RunInfo:
        """Ask a run to stop. See `Client.stop`."""
        return await self._shell.call(
            operations.stop(run_id, checkpoint=checkpoint, grace_s=grace_s)
        )

    @takes(fork_operations.fork)
    async def fork(self, calls: CallSequence[RunInfo]) -> AsyncRun:
        """Start a new run from another's checkpoint. See `Client.fork`."""
        return AsyncRun(self._shell, await self._shell.call_all(calls))

    async def watch(
        self, run_id: str, *, after_seq: int = 0, timeout_s: float | None = None
    ) -> AsyncIterator[Event]:
        """Yield a run's events, up to the run's end. See `Client.watch`."""
        if after_seq:
            info = await self.get(run_id)
            if info.state.is_terminal and info.last_seq <= after_seq:
                return
        stream = streams.EventStream(run_id, after_seq, folds.to_events)
        async for event in self._shell.read(stream, timeout_s):
            yield event

    @takes(streams.metrics_stream)
    def watch_metrics(self, stream: streams.MetricsStream) -> AsyncIterator[MetricsUpdate]:
        """Yield the metrics of many runs, without end. See `Client.watch_metrics`."""
        return self._shell.read(stream)

    @takes(operations.query_metrics)
    async def query_metrics(self, operation: Operation[History]) -> History:
        """Return a run's metrics so far. See `Client.query_metrics`."""
        return await self._shell.call(operation)

    @takes(search_operations.create_search)
    async def search(self, operation: Operation[SearchInfo]) -> AsyncSearch:
        """Search for good configs; it starts at once. See `Client.search`."""
        return AsyncSearch(self._shell, await self._shell.call(operation))

    async def get_search(self, search_id: str) -> AsyncSearch:
        """Attach to a search, from anywhere. See `Client.get_search`."""
        info = await self._shell.call(search_operations.get_search(search_id))
        return AsyncSearch(self._shell, info)

    @takes(search_operations.list_searches)
    async def searches(self, pages: Pages[SearchInfo]) -> AsyncIterator[AsyncSearch]:
        """Yield the searches for which all filters hold. See `Client.searches`."""
        async for info in self._shell.items(pages):
            yield AsyncSearch(self._shell, info)

    async def code_diff(self, run_id: str, other_id: str) -> str:
        """Return a unified diff from the code of one run to that of another. See `Client.code_diff`."""
        with CodeDiff(await self.get(run_id), await self.get(other_id)) as diff:
            for download in diff.downloads():
                await self._shell.download(download)
            return diff.text()

    async def artifacts(self, run_id: str) -> tuple[Artifact, ...]:
        """Return the files of a run. See `Client.artifacts`."""
        return await self._shell.call(operations.artifacts(run_id))

    async def download(
        self, run_id: str, path: str, to: str | os.PathLike[str] | None = None
    ) -> Path:
        """Download a file of a run. See `Client.download`."""
        return await self._shell.download(Download(run_id, path, to))

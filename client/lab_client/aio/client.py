"""The client for asyncio: the twin of `Client`, on the same operations and streams."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from lab_client.aio.experiment import AsyncExperiment
from lab_client.aio.run import AsyncRun
from lab_client.aio.search import AsyncSearch
from lab_client.aio.shell import AsyncShell
from lab_client.configs import ExperimentInfo, Plan, RunOrder
from lab_client.events import Event, MetricsUpdate
from lab_client.history import History
from lab_client.protocol import folds, operations, search_operations, streams
from lab_client.protocol.code_diff import CodeDiff
from lab_client.protocol.download import Download
from lab_client.protocol.operations import Overrides
from lab_client.protocol.pages import Pages
from lab_client.protocol.search_operations import PAGE_SIZE, Space
from lab_client.protocol.upload import ExperimentSource, as_source, with_code
from lab_client.runs import (
    Artifact,
    Dashboard,
    RunInfo,
    RunOptions,
    RunParent,
    RunState,
    ServerInfo,
)
from lab_client.searches import SearchState
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

    async def plan(
        self,
        experiment: ExperimentSource,
        overrides: Overrides | None = None,
        *,
        run_order: RunOrder | None = None,
        models: Iterable[str] | None = None,
        parent: RunParent | None = None,
    ) -> Plan:
        """Resolve a config message without running anything. See `Client.plan`."""
        make = partial(
            operations.plan,
            overrides=overrides,
            run_order=run_order,
            models=models,
            parent=parent,
        )
        return await self._shell.call_all(with_code(experiment, make))

    async def create(
        self,
        experiment: ExperimentSource,
        overrides: Overrides | None = None,
        *,
        run_order: RunOrder | None = None,
        models: Iterable[str] | None = None,
        name: str = "",
        tags: Iterable[str] = (),
        notes: str = "",
        options: RunOptions | None = None,
        parent: RunParent | None = None,
        idempotency_key: str | None = None,
    ) -> AsyncRun:
        """Create a run, which does not start yet. See `Client.create`."""
        make = partial(
            operations.create,
            overrides=overrides,
            run_order=run_order,
            models=models,
            name=name,
            tags=tags,
            notes=notes,
            options=options,
            parent=parent,
            idempotency_key=idempotency_key,
        )
        return AsyncRun(self._shell, await self._shell.call_all(with_code(experiment, make)))

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

    async def runs(
        self,
        *,
        experiment: str = "",
        states: Iterable[RunState | str] = (),
        tags: Iterable[str] = (),
        name_contains: str = "",
        where: str = "",
        order_by: str = "",
        limit: int | None = None,
    ) -> AsyncIterator[AsyncRun]:
        """Yield the runs for which all filters hold. See `Client.runs`."""
        pages = Pages(limit)
        while not pages.is_over:
            page = await self._shell.call(
                operations.list_runs(
                    pages,
                    experiment=experiment,
                    states=states,
                    tags=tags,
                    name_contains=name_contains,
                    where=where,
                    order_by=order_by,
                )
            )
            for info in pages.take(page):
                yield AsyncRun(self._shell, info)

    async def count_runs(
        self,
        *,
        experiment: str = "",
        states: Iterable[RunState | str] = (),
        tags: Iterable[str] = (),
        name_contains: str = "",
        where: str = "",
    ) -> int:
        """Return the number of runs for which all filters hold. See `Client.count_runs`."""
        page = await self._shell.call(
            operations.list_runs(
                Pages(1),
                experiment=experiment,
                states=states,
                tags=tags,
                name_contains=name_contains,
                where=where,
                order_by="",
            )
        )
        return page.num_all

    async def update(
        self,
        run_id: str,
        *,
        name: str | None = None,
        tags: Iterable[str] | None = None,
        notes: str | None = None,
        add_tags: Iterable[str] = (),
        remove_tags: Iterable[str] = (),
    ) -> RunInfo:
        """Change a run's name, tags or notes. See `Client.update`."""
        operation = operations.update(
            run_id,
            name=name,
            tags=tags,
            notes=notes,
            add_tags=add_tags,
            remove_tags=remove_tags,
        )
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

    async def fork(
        self,
        run_id: str,
        step: int | None = None,
        overrides: Overrides | None = None,
        *,
        name: str = "",
        tags: Iterable[str] | None = None,
        notes: str = "",
        options: RunOptions | None = None,
        start: bool = True,
        more_epochs: int = 0,
    ) -> AsyncRun:
        """Start a new run from another's checkpoint. See `Client.fork`."""
        calls = operations.fork(
            run_id,
            operations.ForkChanges(step, overrides, more_epochs),
            name=name,
            tags=tags,
            notes=notes,
            options=options,
            start=start,
        )
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

    def watch_metrics(
        self,
        *,
        run_ids: Iterable[str] = (),
        experiment: str = "",
        tags: Iterable[str] = (),
        names: Iterable[str] = (),
        cursor: str = "",
        from_start: bool = False,
    ) -> AsyncIterator[MetricsUpdate]:
        """Yield the metrics of many runs, without end. See `Client.watch_metrics`."""
        stream = streams.metrics_stream(
            run_ids=run_ids,
            experiment=experiment,
            tags=tags,
            names=names,
            cursor=cursor,
            from_start=from_start,
        )
        return self._shell.read(stream)

    async def query_metrics(
        self,
        run_id: str,
        names: Iterable[str] = (),
        *,
        max_points: int = 0,
        min_step: int | None = None,
        max_step: int | None = None,
    ) -> History:
        """Return a run's metrics so far. See `Client.query_metrics`."""
        return await self._shell.call(
            operations.query_metrics(
                run_id, names=names, max_points=max_points, min_step=min_step, max_step=max_step
            )
        )

    async def search(self, experiment: str, space: Space, **arguments: Any) -> AsyncSearch:
        """Search for good configs; it starts at once. See `Client.search`."""
        operation = search_operations.create_search(experiment, space, **arguments)
        return AsyncSearch(self._shell, await self._shell.call(operation))

    async def get_search(self, search_id: str) -> AsyncSearch:
        """Attach to a search, from anywhere. See `Client.get_search`."""
        info = await self._shell.call(search_operations.get_search(search_id))
        return AsyncSearch(self._shell, info)

    async def searches(
        self,
        *,
        experiment: str = "",
        states: Iterable[SearchState | str] = (),
        limit: int | None = None,
    ) -> AsyncIterator[AsyncSearch]:
        """Yield the searches for which all filters hold. See `Client.searches`."""
        token, left = "", limit
        while left is None or left > 0:
            page = await self._shell.call(
                search_operations.list_searches(
                    experiment=experiment,
                    states=states,
                    page_size=min(left or PAGE_SIZE, PAGE_SIZE),
                    page_token=token,
                )
            )
            for info in page.searches:
                yield AsyncSearch(self._shell, info)
            left = None if left is None else left - len(page.searches)
            token = page.next_page_token
            if not token:
                return

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

"""The generation that has the experiments as their files are now: replaced when those are edited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from lab_core.configs import Schema
from lab_server.errors import LaunchError
from lab_server.executors.forkserver_client import ForkServerClient
from lab_server.executors.generation_client import GenerationClient, GenerationDied
from lab_server.executors.source_watch import SourceWatch
from lab_server.model.experiment import ExperimentEntry
from lab_server.model.generation import GenerationSpec
from lab_server.processes.patience import patiently

_log = structlog.get_logger("lab_server.forkserver")

_MAX_DEATHS = 5
_BACKOFF_S = 0.1
_FAILED_S = 5.0  # so long after it could not be loaded nobody tries again


@dataclass(frozen=True, slots=True)
class _Loaded:
    generation: GenerationClient
    entries: tuple[ExperimentEntry, ...]
    watch: SourceWatch


class CurrentGeneration:
    """Answers requests by a generation of now. Its state belongs to the event loop's thread.

    Trainers of a generation that was replaced are not touched, and what it was asked before it answers.

    Args:
        forkserver: forks generations.
        spec: what they import.
        is_watching: whether edits replace it; else only `reload` does.
        on_exit: called with pid and wait status when a trainer has ended.
    """

    def __init__(
        self,
        forkserver: ForkServerClient,
        spec: GenerationSpec,
        *,
        is_watching: bool,
        on_exit: Callable[[int, int], None],
    ) -> None:
        self._forkserver = forkserver
        self._spec = spec
        self._is_watching = is_watching
        self._on_exit = on_exit
        self._loaded: _Loaded | None = None
        self._loading: asyncio.Task[_Loaded] | None = None
        self._failure: LaunchError | None = None
        self._failed_until = 0.0

    async def entries(self) -> tuple[ExperimentEntry, ...]:
        """Return the experiments as their files are now; the same tuple while nothing changes.

        Raises:
            LaunchError: If importing them ends the process.
            Unavailable: If the server stops.
        """
        return (await self._current()).entries

    async def ask(self, op: str, **arguments: Any) -> dict[str, Any]:
        """Send a request and return the answer; asked again of the next generation if one dies.

        Raises:
            LaunchError: If it fails, or generations do not live long enough to answer.
            Unavailable: If the server stops.
        """
        for _ in range(_MAX_DEATHS):
            loaded = await self._current()
            try:
                return await loaded.generation.ask(op, **arguments)
            except GenerationDied:
                continue
        raise LaunchError(
            f"the process of the experiments ended {_MAX_DEATHS} times; see the server's error output"
        )

    async def reload(self) -> None:
        """Have the next request answered by a new generation, whether files changed or not."""
        self._failure = None
        if self._loading is None:
            self._start_loading(())

    async def close(self) -> None:
        """Let the generation end; trainers go on."""
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.wait((self._loading,))
        if self._loaded is not None:
            await self._loaded.generation.close()

    async def _current(self) -> _Loaded:
        loaded = self._loaded
        if self._loading is None and loaded is not None and loaded.generation.is_alive:
            look = partial(asyncio.to_thread, loaded.watch.changed)
            changed = await patiently(look) if self._is_watching else []
            # meanwhile somebody else may have found the same
            if not changed and loaded is self._loaded and self._loading is None:
                return loaded
        else:
            changed = []
        if self._loading is None:
            if self._failure is not None and time.monotonic() < self._failed_until:
                raise self._failure
            self._start_loading(changed)
        assert self._loading is not None
        # others wait for it, too, and it is of use when nobody does any more
        return await asyncio.shield(self._loading)

    def _start_loading(self, changed: Any) -> None:
        if changed:
            _log.info("experiments were edited; loading them anew", files=list(changed))
        self._loading = asyncio.create_task(self._load(), name="load experiments")
        self._loading.add_done_callback(self._end_loading)

    def _end_loading(self, task: asyncio.Task[_Loaded]) -> None:
        self._loading = None
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, LaunchError):
            self._failure, self._failed_until = error, time.monotonic() + _FAILED_S

    async def _load(self) -> _Loaded:
        before, began = self._loaded, time.monotonic()
        for num_deaths in range(_MAX_DEATHS):
            connection = await self._forkserver.open(self._spec)
            generation = GenerationClient(connection, self._on_exit)
            try:
                answer = await generation.ask("describe")
            except GenerationDied:
                await asyncio.sleep(_BACKOFF_S * 2**num_deaths)
                continue
            except BaseException:
                generation.retire()
                raise
            watch = SourceWatch.of_json(answer["files"])
            entries = tuple(_entry(data) for data in answer["experiments"])
            self._loaded = _Loaded(generation, entries, watch)
            if before is not None:
                before.generation.retire()
                _log.info("experiments loaded anew", seconds=round(time.monotonic() - began, 3))
            return self._loaded
        if before is not None:
            # what it has is not what the files say: nobody may get it by mistake
            before.generation.retire()
            self._loaded = None
        raise LaunchError(
            f"importing them ended the process {_MAX_DEATHS} times; see the server's error output"
        )


def _entry(data: dict[str, Any]) -> ExperimentEntry:
    schema = data["schema"]
    return ExperimentEntry(
        data["name"],
        None if schema is None else Schema.from_json(schema),
        data["error"],
        data["traceback"],
        data["code_digest"],
    )

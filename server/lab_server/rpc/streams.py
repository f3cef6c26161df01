"""The streaming RPCs of TrainingService: events of a run, metrics across runs, files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from lab_core.errors import Violation
from lab_rpc.metric_names import matcher
from lab_rpc.v1 import event_pb2, training_service_pb2
from lab_server.errors import InvalidRequest, NotFound
from lab_server.messages import events
from lab_server.model.run import Run
from lab_server.rpc import requests
from lab_server.rpc.calls import auth
from lab_server.rpc.calls.interceptors import Context
from lab_server.rpc.calls.limits import Limits
from lab_server.rpc.files_of_runs import FilesOfRuns
from lab_server.rpc.run_lookup import find_run
from lab_server.store import Store, StoredEvent
from lab_server.supervisor.protocol import RunControl
from lab_server.watch.hub import Hub

pb = training_service_pb2

# Clients take messages of 4 MiB unless told; small ones share a connection better.
_MAX_MESSAGE_BYTES = 1 << 20
_WATCHED_KINDS = frozenset({"metrics", "truncate", "state"})


@dataclass(frozen=True, slots=True)
class News:
    """What happened in some runs.

    Attributes:
        position: the cursor after it.
        events: in the order in which they were recorded; none is a heartbeat.
        runs: of the events, by id, as they are now.
    """

    position: int
    events: Sequence[StoredEvent]
    runs: Mapping[str, Run]


class Streams:
    """Handlers named like their RPCs."""

    def __init__(
        self,
        *,
        supervisor: RunControl,
        store: Store,
        hub: Hub,
        limits: Limits,
        files: FilesOfRuns,
    ) -> None:
        self._supervisor = supervisor
        self._store = store
        self._hub = hub
        self._limits = limits
        self._files = files

    # N802: the names are those of the RPCs
    async def WatchRun(  # noqa: N802
        self, request: pb.WatchRunRequest, _context: Context
    ) -> AsyncIterator[bytes]:
        """Yield encoded WatchRunResponses; the events in them are the bytes that the trainer wrote."""
        run = await find_run(self._supervisor, request.run_id)
        if run.state.is_terminal and request.after_seq > run.last_seq:
            sentence = (
                f"after_seq is {request.after_seq}, but the run's last event is {run.last_seq}"
            )
            raise InvalidRequest([Violation("after_seq", sentence)])
        after_seq = min(request.after_seq, requests.INT64_MAX)
        with self._limits.stream(auth.current()):
            async for batch in self._hub.watch(run.id, after_seq):
                auth.recheck()
                messages = [
                    b"".join(events.frame(event.payload) for event in part)
                    for part in _parts(batch)
                ]
                del batch  # a stalled reader costs its next message, and no more
                while messages:
                    yield messages.pop(0)

    async def WatchMetrics(  # noqa: N802
        self, request: pb.WatchMetricsRequest, _context: Context
    ) -> AsyncIterator[bytes]:
        """Yield encoded WatchMetricsResponses of the runs that match the request's filters."""
        requests.check_patterns(request.names)
        picked = _Metrics(request.names)
        async for news in self.news(request, _WATCHED_KINDS):
            parts = _parts(news.events)
            ends = [*(part[-1].position for part in parts[:-1]), news.position]
            messages = [
                _encode(part, news.runs, picked, end) for part, end in zip(parts, ends, strict=True)
            ]
            del news, parts
            while messages:
                yield messages.pop(0)

    async def news(
        self, request: pb.WatchMetricsRequest, kinds: frozenset[str] = frozenset()
    ) -> AsyncIterator[News]:
        """Yield the events of the runs that match a request's filters, as WatchMetrics does.

        The first news has no events: who is cut off before the first needs a cursor, too.

        Args:
            request: which runs, and after which cursor; the names of metrics are the caller's to apply.
            kinds: of events; none for all.
        """
        wanted = _Runs(request, await self._run_ids(request))
        position = await self._position(request)
        with self._limits.stream(auth.current()):
            yield News(position, (), {})
            async for batch in self._hub.watch_all(position, kinds):
                auth.recheck()
                position = batch[-1].position if batch else position
                runs = await self._runs_of(batch, wanted)
                # nothing of it is kept here while the caller has it
                given = [News(position, tuple(e for e in batch if e.run_id in runs), runs)]
                del batch, runs
                yield given.pop()

    async def DownloadArtifact(  # noqa: N802
        self, request: pb.DownloadArtifactRequest, _context: Context
    ) -> AsyncIterator[bytes]:
        """Yield a file in chunks."""
        run = await find_run(self._supervisor, request.run_id)
        reading = self._files.read_chunks(run, request.path, request.offset)
        with self._limits.stream(auth.current()):
            async with aclosing(reading) as chunks:
                async for chunk in chunks:
                    yield pb.DownloadArtifactResponse(
                        data=chunk.data, size_bytes=chunk.size_bytes, sha256=chunk.sha256
                    ).SerializeToString()

    async def _run_ids(self, request: pb.WatchMetricsRequest) -> frozenset[str]:
        if len(request.run_ids) > requests.MAX_NUM_IDS:
            sentence = f"run_ids may have at most {requests.MAX_NUM_IDS} ids"
            raise InvalidRequest([Violation("run_ids", sentence)])
        found = [await find_run(self._supervisor, run_id) for run_id in request.run_ids]
        return frozenset(run.id for run in found)

    async def _position(self, request: pb.WatchMetricsRequest) -> int:
        cursor = request.cursor
        if not cursor and request.from_start:
            return 0
        last = await self._store.last_position()
        if not cursor:
            return last
        if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
            sentence = "cursor must be the cursor of an earlier response"
            raise InvalidRequest([Violation("cursor", sentence)])
        if int(cursor) > last:
            sentence = (
                f"cursor is {cursor}, but the server's last event is {last}: it is of another server, or of"
                " before this one was restored; begin without it"
            )
            raise InvalidRequest([Violation("cursor", sentence)])
        return int(cursor)

    async def _runs_of(self, batch: Iterable[StoredEvent], wanted: _Runs) -> Mapping[str, Run]:
        runs = {}
        for run_id in {event.run_id for event in batch}:
            try:
                run = await self._supervisor.get(run_id)
            except NotFound:  # deleted since
                continue
            if wanted.wants(run):
                runs[run_id] = run
        return runs


class _Runs:
    """Which runs a request selects."""

    def __init__(self, request: pb.WatchMetricsRequest, run_ids: frozenset[str]) -> None:
        self._run_ids = run_ids
        self._experiment = request.experiment
        self._tags = frozenset(request.tags)

    def wants(self, run: Run) -> bool:
        return (
            (not self._run_ids or run.id in self._run_ids)
            and (not self._experiment or run.experiment == self._experiment)
            and self._tags <= set(run.request.tags)
        )


class _Metrics:
    """Which metrics a request selects."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = tuple(names)
        self._is_wanted = matcher(self._names)

    def pick(self, event: StoredEvent) -> bytes | None:
        """Return the event with only the selected metrics, None if it has none of them."""
        if not self._names or event.kind != "metrics":
            return event.payload
        message = event_pb2.RunEvent.FromString(event.payload)
        columns = [c for c in message.metrics.columns if self._is_wanted(c.name)]
        if not columns:
            return None
        kept = event_pb2.Metrics(steps=message.metrics.steps, columns=columns)
        message.metrics.CopyFrom(kept)
        return message.SerializeToString()


def _encode(
    part: Sequence[StoredEvent], runs: Mapping[str, Run], picked: _Metrics, position: int
) -> bytes:
    response = pb.WatchMetricsResponse(cursor=str(position))
    for event in part:
        run = runs[event.run_id]
        payload = picked.pick(event)
        if payload is not None:
            batch = response.batches.add(run_id=run.id, experiment=run.experiment)
            batch.event.MergeFromString(payload)
    return response.SerializeToString()


def _parts(batch: Sequence[StoredEvent]) -> list[Sequence[StoredEvent]]:
    """Split events into messages of a bounded size; a heartbeat is one empty message."""
    if not batch:
        return [()]
    parts: list[Sequence[StoredEvent]] = []
    start = size = 0
    for index, event in enumerate(batch):
        if index > start and size + len(event.payload) > _MAX_MESSAGE_BYTES:
            parts.append(batch[start:index])
            start, size = index, 0
        size += len(event.payload) + 64
    parts.append(batch[start:])
    return parts

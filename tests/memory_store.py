"""The store in memory: the twin of SqlStore for tests, held to the same contract."""

from __future__ import annotations

import dataclasses
import json
import operator
from collections.abc import Callable, Sequence
from typing import Literal

from lab_core.errors import Violation
from lab_server.errors import InvalidRequest, NotFound, StoreError
from lab_server.messages import events as codec
from lab_server.messages.events import EncodedEvent
from lab_server.model.run import Run, RunState
from lab_server.store.protocol import (
    History,
    IdempotencyRecord,
    NewSeriesChunk,
    RunPage,
    RunQuery,
    SeriesChunk,
    StoredEvent,
)
from tests.conditions import holds, sort_keys


class MemoryStore:
    """Runs and events in dictionaries; gone with the process."""

    leader = ""
    lease_age_s = 0.0

    def __init__(self) -> None:
        self._runs: dict[str, Run] = {}
        self._events: list[StoredEvent] = []
        self._idempotency_records: dict[str, tuple[IdempotencyRecord, str]] = {}
        self._last_position = 0
        self._history_seqs: dict[str, int] = {}
        self._chunks: dict[int, tuple[str, NewSeriesChunk]] = {}
        self._last_chunk_id = 0

    async def create(self, run: Run, idempotency: IdempotencyRecord | None) -> Run:
        """See Store."""
        if idempotency is not None and idempotency.key in self._idempotency_records:
            return self._runs[self._known_run(idempotency)]
        if run.id in self._runs:
            raise StoreError(f"there is a run {run.id} already")
        self._runs[run.id] = run
        self._submit(idempotency, run.id)
        return run

    async def commit(
        self,
        run: Run,
        events: Sequence[EncodedEvent] = (),
        idempotency: IdempotencyRecord | None = None,
        then: Callable[[tuple[StoredEvent, ...]], object] = lambda _: None,
    ) -> tuple[StoredEvent, ...]:
        """See Store."""
        last_seq = (await self.get(run.id)).last_seq
        if run.last_seq != last_seq + len(events):
            raise StoreError(f"the events of run {run.id} do not go on at seq {last_seq + 1}")
        self._submit(idempotency, run.id)
        self._runs[run.id] = run
        stored = tuple(
            StoredEvent(
                self._last_position + index,
                run.id,
                last_seq + index,
                new.kind,
                codec.with_seq(new.payload, last_seq + index),
            )
            for index, new in enumerate(events, 1)
        )
        self._last_position += len(stored)
        self._events += stored
        then(stored)
        return stored

    async def idempotency_record(self, key: str) -> tuple[IdempotencyRecord, str] | None:
        """See Store."""
        return self._idempotency_records.get(key)

    async def get(self, run_id: str) -> Run:
        """See Store."""
        if run_id not in self._runs:
            raise NotFound("run", run_id)
        return self._runs[run_id]

    async def briefs(self, run_ids: Sequence[str]) -> dict[str, Run]:
        """See Store."""
        found = (self._runs[run_id] for run_id in run_ids if run_id in self._runs)
        return {run.id: dataclasses.replace(run, metrics={}, extremes={}) for run in found}

    async def ids_with_prefix(self, prefix: str, limit: int = 2) -> tuple[str, ...]:
        """See Store."""
        return tuple(sorted(i for i in self._runs if i.startswith(prefix))[:limit])

    async def list(self, query: RunQuery) -> RunPage:
        """See Store."""
        after, now_ns = _place(query)
        runs = [run for run in self._runs.values() if _is_match(run, query, now_ns)]
        runs.sort(key=lambda run: run.id, reverse=query.is_descending)
        keys = {run.id: sort_keys(run, query.order_by, now_ns) for run in runs}
        # the least important key first; what has none stays behind in either order
        for index in (1, 0):
            place = operator.itemgetter(index)
            there = [run for run in runs if place(keys[run.id]) is not None]
            there.sort(key=lambda run: place(keys[run.id]), reverse=query.is_descending)
            runs = there + [run for run in runs if place(keys[run.id]) is None]
        start = 0
        if query.after:
            start = [run.id for run in runs].index(after) + 1
        page = runs[start : start + query.limit]
        if (names := query.metrics) is not None:
            page = [
                dataclasses.replace(
                    run,
                    metrics={name: v for name, v in run.metrics.items() if name in names},
                    extremes={},
                )
                for run in page
            ]
        has_more = len(runs) > start + len(page)
        token = json.dumps([page[-1].id, now_ns]) if has_more and page else ""
        return RunPage(tuple(page), token, len(runs) if query.is_counted else None)

    async def names(self, num_runs: int) -> frozenset[str]:
        """See Store."""
        runs = sorted(self._runs.values(), key=lambda run: run.create_time_ns, reverse=True)
        return frozenset(key for run in runs[:num_runs] for key in (*run.configs, *run.metrics))

    async def unfinished(self) -> tuple[Run, ...]:
        """See Store."""
        runs = [r for r in self._runs.values() if r.state.has_process or r.state is RunState.QUEUED]
        return tuple(sorted(runs, key=lambda r: (-r.request.options.priority, r.queue_key, r.id)))

    async def counts(self) -> dict[RunState, int]:
        """See Store."""
        states = [run.state for run in self._runs.values()]
        return {state: states.count(state) for state in RunState}

    async def events(
        self, run_id: str, after_seq: int, max_bytes: int, kinds: frozenset[str] = frozenset()
    ) -> tuple[StoredEvent, ...]:
        """See Store."""
        events = [e for e in self._events if e.run_id == run_id and e.seq > after_seq]
        return _up_to(events, max_bytes, kinds)

    async def events_across(
        self, after_position: int, max_bytes: int, kinds: frozenset[str] = frozenset()
    ) -> tuple[StoredEvent, ...]:
        """See Store."""
        return _up_to([e for e in self._events if e.position > after_position], max_bytes, kinds)

    async def last_position(self) -> int:
        """See Store."""
        return self._last_position

    async def compact(self, run_id: str, last_seq: int) -> None:
        """See Store; there is nothing to do."""

    async def history(
        self, run_id: str, is_wanted: Callable[[str], bool] = lambda _: True
    ) -> History:
        """See Store."""
        return (await self.histories([run_id], is_wanted))[run_id]

    async def histories(
        self, run_ids: Sequence[str], is_wanted: Callable[[str], bool] = lambda _: True
    ) -> dict[str, History]:
        """See Store."""
        return {run_id: self._history(run_id, is_wanted) for run_id in run_ids}

    def _history(self, run_id: str, is_wanted: Callable[[str], bool]) -> History:
        found = [
            SeriesChunk(id, chunk.metric, chunk.first_step, chunk.last_step, chunk.num_points)
            for id, (of_run, chunk) in self._chunks.items()
            if of_run == run_id and is_wanted(chunk.metric)
        ]
        found.sort(key=lambda chunk: (chunk.metric, chunk.first_step))
        return History(self._history_seqs.get(run_id, 0), tuple(found))

    async def chunk_data(
        self, ids: Sequence[int], what: Literal["summary", "points"]
    ) -> dict[int, bytes]:
        """See Store."""
        return {id: getattr(self._chunks[id][1], what) for id in ids if id in self._chunks}

    async def write_history(
        self,
        run_id: str,
        after_seq: int,
        last_seq: int,
        removed: Sequence[int],
        added: Sequence[NewSeriesChunk],
    ) -> bool:
        """See Store."""
        if run_id not in self._runs or self._history_seqs.get(run_id, 0) != after_seq:
            return False
        self._history_seqs[run_id] = last_seq
        for id in removed:
            self._chunks.pop(id, None)
        for chunk in added:
            self._last_chunk_id += 1
            self._chunks[self._last_chunk_id] = run_id, chunk
        return True

    async def drop_history(self, run_id: str) -> None:
        """See Store."""
        self._history_seqs.pop(run_id, None)
        self._chunks = {k: v for k, v in self._chunks.items() if v[0] != run_id}

    async def runs_with_history_behind(self) -> tuple[str, ...]:
        """See Store."""
        seqs = self._history_seqs
        return tuple(
            sorted(run.id for run in self._runs.values() if run.last_seq > seqs.get(run.id, 0))
        )

    async def delete(self, run_id: str) -> None:
        """See Store."""
        await self.get(run_id)
        del self._runs[run_id]
        self._idempotency_records = {
            k: v for k, v in self._idempotency_records.items() if v[1] != run_id
        }

    async def purge(self, run_id: str) -> None:
        """See Store."""
        await self.drop_history(run_id)
        self._events = [e for e in self._events if e.run_id != run_id]

    async def close(self) -> None:
        """See Store."""

    def _submit(self, idempotency: IdempotencyRecord | None, run_id: str) -> None:
        if idempotency is None:
            return
        if idempotency.key in self._idempotency_records:
            self._known_run(idempotency)
        else:
            self._idempotency_records[idempotency.key] = (idempotency, run_id)

    def _known_run(self, idempotency: IdempotencyRecord) -> str:
        known, run_id = self._idempotency_records[idempotency.key]
        idempotency.check(known.fingerprint)
        return run_id


def _place(query: RunQuery) -> tuple[str, int]:
    if not query.after:
        return "", query.now_ns
    try:
        run_id, now_ns = json.loads(query.after)
        if isinstance(run_id, str) and isinstance(now_ns, int):
            return run_id, now_ns
    except (ValueError, TypeError):
        pass
    message = "the page token is not valid; start again without one"
    raise InvalidRequest([Violation("page_token", message)])


def _is_match(run: Run, query: RunQuery, now_ns: int) -> bool:
    return (
        query.experiment in ("", run.experiment)
        and (not query.states or run.state in query.states)
        and query.tags <= set(run.request.tags)
        and query.name_contains in run.request.name
        and query.owner in (None, run.owner)
        and (query.where is None or holds(run, query.where, now_ns))
    )


def _up_to(
    events: Sequence[StoredEvent], max_bytes: int, kinds: frozenset[str]
) -> tuple[StoredEvent, ...]:
    found: list[StoredEvent] = []
    num_bytes = 0
    for event in events:
        if kinds and event.kind not in kinds:
            continue
        num_bytes += len(event.payload)
        if found and num_bytes > max_bytes:
            break
        found.append(event)
    return tuple(found)

"""What happens in all runs, as server-sent events: which runs changed, and how far they are."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final

from aiohttp import web

from lab_core.errors import LabError
from lab_server.api.errors import error_json
from lab_server.api.gate import Gate
from lab_server.api.json_messages import from_json
from lab_server.api.query import query_to_json
from lab_server.api.routes import Route
from lab_server.model.run import Run
from lab_server.rpc.streams import News, Streams

ROUTE: Final = Route(
    *("GET", "/api/v1/events", "WatchMetrics", "What happens in all runs, as server-sent events."),
    left_out=frozenset({"names"}),
)

PAUSE_S: Final = 1.0
"""The least time between two events to one reader; what happens meanwhile is one event."""

_MUCH_BYTES: Final = 64 << 10
"""Who gets news of so much is behind: there is no pause before the next."""


class EventStreams:
    """Serves `/events`; the id of an event is the cursor of WatchMetrics after it."""

    def __init__(self, gate: Gate, streams: Streams, *, pause_s: float = PAUSE_S) -> None:
        self._gate = gate
        self._streams = streams
        self._pause_s = pause_s
        self._open: set[asyncio.Task[Any]] = set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Stream until the reader leaves, the server stops, or the reader's token ends."""
        self._gate.admit(request, ROUTE.method)
        wanted = ROUTE.new_request()
        data = query_to_json(request, ROUTE.fields)
        if last_id := request.headers.get("Last-Event-ID"):
            data["cursor"] = last_id
        from_json(wanted, data)
        async with aclosing(self._streams.news(wanted)) as news:  # type: ignore[arg-type, type-var]
            first = await anext(news)
            response = web.StreamResponse(
                headers={
                    "Content-Type": "text/event-stream",
                    "Cache-Control": "no-store",
                    "X-Accel-Buffering": "no",
                }
            )
            await response.prepare(request)
            task = asyncio.current_task()
            assert task is not None
            self._open.add(task)
            try:
                await response.write(_event("hello", {}, first.position))
                await self._write_all(response, news)
            except ConnectionResetError:
                pass  # the reader is gone
            finally:
                self._open.discard(task)
        return response

    async def close(self, _app: web.Application) -> None:
        """End all streams: their readers come back with the cursor of the last event."""
        for task in tuple(self._open):
            task.cancel()

    async def _write_all(self, response: web.StreamResponse, news: AsyncIterator[News]) -> None:
        try:
            async for one in news:
                if one.events:
                    await response.write(_event("runs", {"runs": _changes(one)}, one.position))
                    num_bytes = sum(len(event.payload) for event in one.events)
                    await asyncio.sleep(self._pause_s if num_bytes < _MUCH_BYTES else 0)
                else:
                    await response.write(b": \n\n")
        except LabError as error:  # the token was revoked, the server stops
            await response.write(_event("end", error_json(error)))


def _changes(news: News) -> list[dict[str, Any]]:
    kinds: dict[str, set[str]] = {}
    for event in news.events:
        kinds.setdefault(event.run_id, set()).add(event.kind)
    return [_change(news.runs[run_id], sorted(found)) for run_id, found in kinds.items()]


def _change(run: Run, kinds: list[str]) -> dict[str, Any]:
    return {
        "id": run.id,
        "kinds": kinds,
        "state": run.state.value,
        "reason": run.reason,
        "attempt": run.attempt,
        "step": run.step,
        "total_steps": run.total_steps,
        "steps_per_second": run.steps_per_second if run.state.has_process else 0.0,
        "last_seq": run.last_seq,
    }


def _event(name: str, data: Any, position: int | None = None) -> bytes:
    head = "" if position is None else f"id: {position}\n"
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return f"{head}event: {name}\ndata: {text}\n\n".encode()

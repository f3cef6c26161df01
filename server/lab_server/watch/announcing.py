"""A hub that also logs each change of state, and counts the runs that ended."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from prometheus_client import CollectorRegistry, Counter

from lab_server.logs import RUNS
from lab_server.messages import events as codec
from lab_server.model.run import RunState
from lab_server.store import Store, StoredEvent
from lab_server.watch.hub import HEARTBEAT_S, Hub

_log = structlog.get_logger(RUNS)


class AnnouncingHub(Hub):
    """Logs and counts states when they are published: after they are in the store.

    Attributes:
        is_announcing: False while another server does it, whose events this one only reads.
    """

    def __init__(
        self, store: Store, registry: CollectorRegistry, *, heartbeat_s: float = HEARTBEAT_S
    ) -> None:
        super().__init__(store, heartbeat_s=heartbeat_s)
        self.is_announcing = True
        self._ended = Counter(
            "lab_runs_ended_total",
            "Runs that ended since the server started, by their last state.",
            ("state",),
            registry=registry,
        )
        for state in RunState:
            if state.is_terminal:
                self._ended.labels(state.value)  # from 0 on, or the first end would be no increase

    def publish(self, events: Sequence[StoredEvent]) -> None:
        """Wake subscribers, and log changes of state."""
        super().publish(events)
        for event in events:
            if event.kind != "state" or not self.is_announcing:
                continue
            change = codec.decode_state(event.payload)
            state = change.state
            write = _log.warning if state is RunState.FAILED else _log.info
            write(
                "run changed its state", run=event.run_id, state=state.value, reason=change.reason
            )
            if state.is_terminal:
                self._ended.labels(state.value).inc()

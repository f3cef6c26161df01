"""Runs as callers see them: with their place in the queue, forecasts, and the code that they were."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Final

from lab_rpc.v1 import provenance_pb2, run_pb2
from lab_server.files.home import Home
from lab_server.messages import events
from lab_server.messages.runs import run_to_proto
from lab_server.model.run import Run, RunState
from lab_server.store import Store
from lab_server.supervisor.forecast import Forecast
from lab_server.supervisor.protocol import RunControl

_PROVENANCE = frozenset({"provenance"})
_FORECAST_S: Final = 0.2
"""A list of a thousand runs computes the forecasts once."""


class RunViews:
    """Turns runs into messages.

    Args:
        supervisor: knows the queue and what trains.
        store: has the runs' logs.
        home: has the runs' folders.
    """

    def __init__(self, supervisor: RunControl, store: Store, home: Home) -> None:
        self._supervisor = supervisor
        self._store = store
        self._home = home
        self._known_forecasts: Mapping[str, Forecast] = {}
        self._forecast_time = -math.inf

    async def whole(self, run: Run) -> run_pb2.Run:
        """Return a run with what only its log has: too much for a list of runs."""
        if not run.provenance_seq:
            return self.brief(run)
        found = await self._store.events(run.id, run.provenance_seq - 1, 1, _PROVENANCE)
        # none: it was deleted just now
        provenance = events.decode(found[0].payload).provenance if found else None
        return self.brief(run, provenance)

    def brief(self, run: Run, provenance: provenance_pb2.Provenance | None = None) -> run_pb2.Run:
        """Return a run with what is known of it at once, which is all that a list of runs has."""
        is_waiting = run.state is RunState.QUEUED
        position = self._supervisor.queue_position(run.id) if is_waiting else 0
        forecast = None
        if run.state is RunState.QUEUED or run.state.has_process:
            known = self._forecasts().get(run.id, Forecast())
            forecast = run_pb2.Forecast(
                ends_in_s=known.ends_in_s, starts_in_s=known.starts_in_s, reason=known.reason
            )
        return run_to_proto(
            run,
            folder=self._home.run_folder(run.experiment, run.id).path,
            queue_position=position,
            provenance=provenance,
            forecast=forecast,
        )

    def _forecasts(self) -> Mapping[str, Forecast]:
        """Return the forecasts of all live runs; computed once for the many runs of a list."""
        now = time.monotonic()
        if now - self._forecast_time > _FORECAST_S:
            self._known_forecasts, self._forecast_time = self._supervisor.forecasts(), now
        return self._known_forecasts

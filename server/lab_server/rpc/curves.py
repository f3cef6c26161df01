"""The curves of a chart: which runs are meant, and how long their epochs are."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from lab_core.errors import LabError
from lab_server.executors.catalogue import Catalogue
from lab_server.model.run import Run
from lab_server.rpc import requests
from lab_server.rpc.run_lookup import find_run
from lab_server.store import Store, StoredEvent
from lab_server.supervisor.protocol import RunControl
from lab_server.watch.curves import Chart, CurveQuery, query_curves
from lab_server.watch.step_times import StepTimes
from lab_server.watch.tails import Tails


class Curves:
    """Answers requests for curves."""

    def __init__(self, supervisor: RunControl, store: Store, catalogue: Catalogue) -> None:
        self._supervisor = supervisor
        self._store = store
        self._catalogue = catalogue
        self._times = StepTimes()
        self._tails = Tails()

    def note(self, events: Sequence[StoredEvent]) -> None:
        """Take note of events that were published."""
        self._tails.note(events)

    async def query(self, run_ids: Sequence[str], query: CurveQuery) -> Chart:
        """Return the curves of runs, which may be named by prefixes of their ids.

        Raises:
            InvalidRequest: If a name or an id cannot be one.
            NotFound: If a run does not exist.
        """
        requests.check_patterns(query.names)
        runs = await self._runs(run_ids)
        if query.axis == "epoch":
            each = await asyncio.gather(*map(self._epochs, runs))
            epochs = {run.id: num for run, num in zip(runs, each, strict=True)}
            query = replace(query, epochs=epochs)
        return await query_curves(self._store, self._times, self._tails, runs, query)

    async def _runs(self, run_ids: Sequence[str]) -> list[Run]:
        """Return the runs, each once; those that are named by a prefix, or that nobody knows, one by one."""
        known = {run.id: run for run in self._supervisor.live()}
        others = [run_id for run_id in run_ids if run_id not in known]
        if others:
            known |= await self._store.briefs(others)
        found = [known.get(i) or await find_run(self._supervisor, i) for i in run_ids]
        return list({run.id: run for run in found}.values())

    async def _epochs(self, run: Run) -> float:
        """Return how many epochs a run has, 0 when its configs do not say."""
        value = run.request.overrides.get("epochs")
        if value is None:
            try:
                schema = await self._catalogue.schema(run.experiment)
            except LabError:  # the experiment is gone
                return 0
            value = next((item.default for item in schema.items if item.key == "epochs"), None)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else 0

"""The runs: a table to filter, sort, group, and choose from."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from aiohttp import web

from lab_core.errors import LabError
from lab_rpc.v1 import training_service_pb2
from lab_server.api.errors import Refused, error_json, http_status
from lab_server.api.gate import Gate
from lab_server.api.routes import method_of
from lab_server.errors import InvalidRequest, NotFound
from lab_server.pages.render import Pages
from lab_server.pages.rows import MAX_CONFIGS, differing_keys, group_lines, line_of, main_metrics
from lab_server.pages.view import STATES, View, view_of
from lab_server.rpc.site_parts import SiteParts

pb = training_service_pb2

_MAX_ROWS: Final = 100
_NUM_FIRST: Final = 10
_EXPERIMENTS_S: Final = 0.3


class RunsPage:
    """Serves `/`, and `/rows`: the lines of runs that have changed."""

    def __init__(self, gate: Gate, pages: Pages, parts: SiteParts) -> None:
        self._gate = gate
        self._pages = pages
        self._service = parts.service

    async def show(self, request: web.Request) -> web.StreamResponse:
        """Show a page of runs; a filter that is wrong is told above the table."""
        self._gate.admit(request, method_of("ListRuns"))
        view = view_of(request)
        error: LabError | None = None
        found = pb.ListRunsResponse()
        metrics: Sequence[str] = view.metrics
        try:
            metrics = view.metrics or await self._main_metrics(view)
            found = await self._service.ListRuns(view.request(metrics), None)
        except (InvalidRequest, Refused) as caught:
            error = caught
        experiments = await self._experiments()
        values = {
            "view": view,
            "states": STATES,
            "experiments": experiments,
            "warnings": [*found.warnings, *_unknown_groups(view, found)],
            "num_all": found.num_all,
            "error": error_json(error)["error"]["message"] if error else "",
            "next": view.link(page=found.next_page_token) if found.next_page_token else "",
            "here": str(request.rel_url),
            **_table(view, found, metrics),
        }
        return self._pages.page("runs.html", values, status=http_status(error) if error else 200)

    async def rows(self, request: web.Request) -> web.StreamResponse:
        """Answer with the lines of some runs, as they are now; those that are gone are not in it."""
        self._gate.admit(request, method_of("GetRun"))
        run_ids = request.query.getall("runs", [])[:_MAX_ROWS]
        keys = request.query.getall("k", [])[:MAX_CONFIGS]
        metrics = view_of(request).metrics
        lines = []
        for run_id in run_ids:
            try:
                answer = await self._service.GetRun(pb.GetRunRequest(run_id=run_id), None)
            except NotFound:
                continue
            lines.append(line_of(answer.run, keys, metrics))
        return self._pages.page("rows.html", {"lines": lines})

    async def _main_metrics(self, view: View) -> Sequence[str]:
        """Return the columns that the first runs of a page suggest: only those are read of all."""
        wanted = view.request()
        wanted.page_size = _NUM_FIRST
        return main_metrics((await self._service.ListRuns(wanted, None)).runs)

    async def _experiments(self) -> list[str]:
        try:
            async with asyncio.timeout(_EXPERIMENTS_S):
                found = await self._service.ListExperiments(pb.ListExperimentsRequest(), None)
        except (LabError, TimeoutError):  # still being loaded: the runs are shown without them
            return []
        return [experiment.name for experiment in found.experiments]


def _unknown_groups(view: View, found: pb.ListRunsResponse) -> list[str]:
    """Return a sentence for each config of the groups that no run has."""
    names = {name for run in found.runs for name in (*run.config.overrides, *run.configs)}
    asked = [name.strip().removeprefix("-") for name in view.group.split(",")]
    return [
        f"None of the runs has a config {name}."
        for name in asked
        if names and name not in names | {""}
    ]


def _table(view: View, found: pb.ListRunsResponse, metrics: Sequence[str]) -> dict[str, Any]:
    metrics = list(metrics) or main_metrics(found.runs)
    if view.group:
        keys, groups = group_lines(found.runs, view.group, metrics)
        return {"keys": keys, "metrics": metrics, "groups": groups, "lines": [], "num_hidden": 0}
    keys = differing_keys(found.runs)
    lines = [line_of(run, keys[:MAX_CONFIGS], metrics) for run in found.runs]
    return {
        "keys": keys[:MAX_CONFIGS],
        "num_hidden": max(0, len(keys) - MAX_CONFIGS),
        "metrics": metrics,
        "groups": [],
        "lines": lines,
    }

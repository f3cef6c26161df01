"""Some runs beside each other: their curves, what differs in their configs, and results over configs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiohttp import web

from lab_rpc.v1 import run_pb2, training_service_pb2
from lab_server.api.errors import Refused
from lab_server.api.gate import Gate
from lab_server.api.routes import method_of
from lab_server.messages.runs import STATES_FROM_PROTO
from lab_server.pages.render import Pages, config_text
from lab_server.pages.rows import config_of, differing_keys, main_metrics, overrides_of, short
from lab_server.rpc.site_parts import SiteParts

pb = training_service_pb2

MAX_RUNS: Final = 100
_TITLE_KEYS: Final = 3


class ComparePage:
    """Serves `/compare`."""

    def __init__(self, gate: Gate, pages: Pages, parts: SiteParts) -> None:
        self._gate = gate
        self._pages = pages
        self._service = parts.service

    async def show(self, request: web.Request) -> web.StreamResponse:
        """Show the runs that the address names."""
        self._gate.admit(request, method_of("GetRun"))
        run_ids = list(dict.fromkeys(request.query.getall("runs", [])))
        if not run_ids:
            raise Refused(400, "NO_RUNS", "select runs to compare first")
        if len(run_ids) > MAX_RUNS:
            sentence = f"at most {MAX_RUNS} runs can be compared, got {len(run_ids)}"
            raise Refused(400, "TOO_MANY", sentence)
        runs = [
            (await self._service.GetRun(pb.GetRunRequest(run_id=run_id), None)).run
            for run_id in run_ids
        ]
        keys = differing_keys(runs)
        metrics = main_metrics(runs, 50)
        titles = titles_of(runs, keys)
        names = sorted({name for run in runs for name in run.metrics})
        values = {
            "runs": runs,
            "states": [STATES_FROM_PROTO[run.state] for run in runs],
            "titles": titles,
            "keys": keys,
            "lines": _configs(runs, keys),
            "metrics": metrics,
            "same": {key: text for key, text in _shared(runs).items() if key not in keys},
            "data": json.dumps(_results(runs, keys, metrics, titles)),
            "names": json.dumps(names),
            "has_metrics": bool(names),
            "are_over": all(STATES_FROM_PROTO[run.state].is_terminal for run in runs),
        }
        return self._pages.page("compare.html", values)


def titles_of(runs: Sequence[run_pb2.Run], keys: Sequence[str]) -> dict[str, str]:
    """Return what tells runs apart in a legend: the configs that differ, else name and id."""
    titles = {}
    for run in runs:
        parts = [
            f"{key}={short(text)}" for key in keys[:_TITLE_KEYS] if (text := config_of(run, key))
        ]
        titles[run.id] = ", ".join(parts) or f"{run.name} {run.id}"
    if len(set(titles.values())) < len(titles):
        titles = {run.id: f"{titles[run.id]} ({run.name} {run.id[-8:]})" for run in runs}
    return titles


def _configs(runs: Sequence[run_pb2.Run], keys: Sequence[str]) -> list[tuple[str, list[str]]]:
    return [(key, [config_of(run, key) for run in runs]) for key in keys]


def _shared(runs: Sequence[run_pb2.Run]) -> Mapping[str, str]:
    return {key: config_text(value) for run in runs for key, value in overrides_of(run).items()}


def _results(
    runs: Sequence[run_pb2.Run],
    keys: Sequence[str],
    metrics: Sequence[str],
    titles: Mapping[str, str],
) -> dict[str, Any]:
    """Return configs and last values as the figures take them; what is not finite is left out."""
    return {
        "keys": list(keys),
        "metrics": list(metrics),
        "runs": [
            {
                "id": run.id,
                "title": titles[run.id],
                "configs": {key: text for key in keys if (text := config_of(run, key))},
                "metrics": {
                    name: run.metrics[name]
                    for name in metrics
                    if name in run.metrics and math.isfinite(run.metrics[name])
                },
            }
            for run in runs
        ],
    }

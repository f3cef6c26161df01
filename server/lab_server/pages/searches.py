"""Searches: a list, and each with its trials, the best so far, and what its configs are worth."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

from aiohttp import web

from lab_rpc.v1 import event_pb2, search_pb2, search_service_pb2, training_service_pb2
from lab_server.api.gate import Gate
from lab_server.api.routes import method_of
from lab_server.errors import NotFound
from lab_server.messages.values import value_from_proto
from lab_server.pages.forms import read_form
from lab_server.pages.render import Pages, config_text
from lab_server.rpc.site_parts import SiteParts

pb = search_service_pb2

_MAX_TRIALS: Final = 1000
_MAX_LIVE: Final = 32  # whose runs are looked at
_ENDED: Final = ("COMPLETED", "STOPPED", "FAILED")


class SearchPages:
    """Serves `/searches` and `/searches/{search_id}`."""

    def __init__(self, gate: Gate, pages: Pages, parts: SiteParts) -> None:
        self._gate = gate
        self._pages = pages
        self._service = parts.searches
        self._runs = parts.service

    async def show_all(self, request: web.Request) -> web.StreamResponse:
        """Show the searches."""
        self._gate.admit(request, method_of("ListSearches"))
        wanted = pb.ListSearchesRequest(page_token=request.query.get("page", ""))
        found = await self._service.ListSearches(wanted, None)
        values = {
            "searches": [(search, _state(search), _objective(search)) for search in found.searches],
            "counts": _counts,
            "next": found.next_page_token,
        }
        return self._pages.page("searches.html", values)

    async def show(self, request: web.Request) -> web.StreamResponse:
        """Show a search."""
        self._gate.admit(request, method_of("GetSearch"))
        search_id = request.match_info["search_id"]
        wanted = pb.GetSearchRequest(search_id=search_id, with_importances=True)
        found = await self._service.GetSearch(wanted, None)
        search = found.search
        asked = pb.ListTrialsRequest(search_id=search.id, page_size=_MAX_TRIALS)
        answer = await self._service.ListTrials(asked, None)
        keys = sorted(search.spec.space)
        trials = list(answer.trials)
        queued = await self._queued(trials)
        values = {
            "search": search,
            "state": _state(search),
            "is_over": _state(search) in _ENDED,
            "is_paused": _state(search) == "PAUSED",
            "keys": keys,
            "best": _params(search.best),
            "trials": [
                (trial, _trial_state(trial, trial.number in queued), _params(trial))
                for trial in trials
            ],
            "has_rungs": search.spec.HasField("halving"),
            "has_reasons": any(trial.reason for trial in trials),
            "has_more": answer.HasField("next_number"),
            "importances": sorted(found.importances.items(), key=lambda pair: -pair[1]),
            "counts": _counts(search, len(queued)),
            "objective": _objective(search),
            "space": [(key, _domain(search.spec.space[key])) for key in keys],
            "data": json.dumps(_results(search, trials, keys)),
        }
        return self._pages.page("search.html", values)

    async def _queued(self, trials: Sequence[search_pb2.Trial]) -> set[int]:
        """Return the numbers of trials whose runs wait for a slot."""
        queued = set()
        live = (trial for trial in trials if trial.state == search_pb2.TRIAL_STATE_RUNNING)
        for trial in islice((trial for trial in live if trial.run_id), _MAX_LIVE):
            try:
                wanted = training_service_pb2.GetRunRequest(run_id=trial.run_id)
                answer = await self._runs.GetRun(wanted, None)
            except NotFound:
                continue
            if answer.run.state == event_pb2.RUN_STATE_QUEUED:
                queued.add(trial.number)
        return queued

    async def act(self, request: web.Request) -> web.StreamResponse:
        """Pause, go on, stop or delete, and show the search again."""
        search_id, action = request.match_info["search_id"], request.match_info["action"]
        await read_form(request)
        match action:
            case "pause" | "go-on":
                self._gate.admit(request, method_of("UpdateSearch"))
                wanted = pb.UpdateSearchRequest(search_id=search_id, paused=action == "pause")
                wanted.update_mask.paths.append("paused")
                await self._service.UpdateSearch(wanted, None)
            case "stop":
                self._gate.admit(request, method_of("StopSearch"))
                stop = pb.StopSearchRequest(search_id=search_id, with_trials=True)
                await self._service.StopSearch(stop, None)
            case "delete":
                self._gate.admit(request, method_of("DeleteSearch"))
                await self._service.DeleteSearch(pb.DeleteSearchRequest(search_id=search_id), None)
                raise web.HTTPSeeOther("/searches")
            case _:
                raise web.HTTPNotFound
        raise web.HTTPSeeOther(f"/searches/{search_id}")


def _state(search: search_pb2.Search) -> str:
    return search_pb2.SearchState.Name(search.state).removeprefix("SEARCH_STATE_")


def _objective(search: search_pb2.Search) -> str:
    wanted = search.spec.objective
    is_max = wanted.direction == search_pb2.DIRECTION_MAXIMIZE
    return f"{'greatest' if is_max else 'least'} {wanted.metric}"


def _trial_state(trial: search_pb2.Trial, is_queued: bool) -> str:
    if is_queued:
        return "QUEUED"
    return search_pb2.TrialState.Name(trial.state).removeprefix("TRIAL_STATE_")


def _params(trial: search_pb2.Trial) -> dict[str, str]:
    return {key: _short(value_from_proto(value)) for key, value in trial.params.items()}


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else config_text(value)


def _counts(search: search_pb2.Search, num_queued: int = 0) -> str:
    counts = {
        search_pb2.TrialState.Name(found.state).removeprefix("TRIAL_STATE_"): found.count
        for found in search.trials
    }
    if num_queued:
        counts = {"QUEUED": num_queued} | counts
        counts["RUNNING"] -= num_queued
    return ", ".join(
        f"{count} {name.lower().replace('_', ' ')}" for name, count in counts.items() if count > 0
    )


def _domain(domain: search_pb2.Domain) -> str:
    match domain.WhichOneof("kind"):
        case "choice":
            return ", ".join(config_text(value_from_proto(v)) for v in domain.choice.values)
        case "float_range":
            span: Any = domain.float_range
        case _:
            span = domain.int_range
    step = f", in steps of {span.step:g}" if span.step else ""
    return f"{span.low:g} to {span.high:g}{step}{', logarithmic' if span.is_log else ''}"


def _results(
    search: search_pb2.Search, trials: list[search_pb2.Trial], keys: list[str]
) -> dict[str, Any]:
    """Return parameters and values as the figures take them; trials without a value are left out."""
    metric = search.spec.objective.metric
    return {
        "keys": keys,
        "metrics": [metric],
        "direction": "max"
        if search.spec.objective.direction == search_pb2.DIRECTION_MAXIMIZE
        else "min",
        "runs": [
            {
                "id": trial.run_id,
                "number": trial.number,
                "title": f"trial {trial.number}",
                "configs": _params(trial),
                "metrics": {metric: trial.value},
            }
            for trial in trials
            if trial.HasField("value") and math.isfinite(trial.value)
        ],
    }

"""The RPCs of SearchService; each checks its request and calls the room that does the work."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace

import structlog

from lab_core.configs.schema.suggest import did_you_mean
from lab_core.errors import ConfigError, Violation
from lab_rpc.v1 import search_pb2, search_service_pb2
from lab_server.errors import InvalidRequest, NotFound
from lab_server.executors.catalogue import Catalogue, model_problems
from lab_server.messages.search_log import response
from lab_server.messages.searches import (
    Defaults,
    fingerprint,
    params_from_proto,
    search_of,
    spec_from_proto,
    states_from_proto,
    trial_to_proto,
)
from lab_server.model.run import Run
from lab_server.model.search import Budget, Sampler, SearchRecord, SearchSpec
from lab_server.rpc import requests
from lab_server.rpc.calls import auth
from lab_server.rpc.calls.interceptors import Context
from lab_server.rpc.calls.limits import Limits
from lab_server.rpc.intake import key_of
from lab_server.rpc.paging import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, Paging
from lab_server.rpc.run_lookup import find_run
from lab_server.rpc.search_requests import (
    MAX_POINTS,
    MAX_SOURCES,
    NO_END,
    check_search_id,
    check_spec,
    check_states,
    check_update,
    may_be_grid,
)
from lab_server.search import sampling, space, warm_start
from lab_server.search.fold import Search
from lab_server.search.searches import Searches
from lab_server.store import IdempotencyRecord, RunQuery, SearchQuery, Store
from lab_server.supervisor.protocol import RunControl

pb = search_service_pb2


class SearchHandlers:
    """Handlers named like their RPCs; an interceptor turns their errors into statuses."""

    def __init__(
        self,
        *,
        searches: Searches,
        catalogue: Catalogue,
        supervisor: RunControl,
        store: Store,
        limits: Limits,
        paging: Paging,
    ) -> None:
        self._searches, self._catalogue, self._supervisor = searches, catalogue, supervisor
        self._store, self._limits, self._paging = store, limits, paging

    # N802: the names are those of the RPCs
    async def CreateSearch(  # noqa: N802
        self, request: pb.CreateSearchRequest, _context: Context
    ) -> pb.CreateSearchResponse:
        """Create a search, which starts at once."""
        checks = requests.Checks()
        checks.text("idempotency_key", request.idempotency_key, requests.MAX_KEY_CHARS)
        idempotency, notes = self._idempotency(request), list[str]()
        # first: what it asks for may have gone since it was created
        record = await self._searches.created_with(idempotency) if idempotency else None
        if record is None:
            sources = await self._sources(checks, request.spec)
            spec = await self._spec(checks, request.spec)
            spec = replace(spec, warm_start=tuple(source.id for source in sources))
            taken, notes = await warm_start.take_over(spec, sources, self._store)
            record = await self._searches.create(
                spec, owner=auth.current().name, idempotency=idempotency, taken=taken
            )
        structlog.contextvars.bind_contextvars(search=record.id)
        return pb.CreateSearchResponse(
            search=search_of(record), warnings=[*await self._warnings(request.spec), *notes]
        )

    async def GetSearch(  # noqa: N802
        self, request: pb.GetSearchRequest, _context: Context
    ) -> pb.GetSearchResponse:
        """Get a search as it is now."""
        record = await self._find(request.search_id)
        found: dict[str, float] = {}
        if request.with_importances:
            search = await self._searches.folded(record.id)
            found = await asyncio.to_thread(sampling.importances, search)
        return pb.GetSearchResponse(search=self._now(record), importances=found)

    async def ListSearches(  # noqa: N802
        self, request: pb.ListSearchesRequest, _context: Context
    ) -> pb.ListSearchesResponse:
        """List searches, the newest first."""
        checks = requests.Checks()
        checks.text("experiment", request.experiment, requests.MAX_NAME_CHARS)
        check_states(checks, request.states)
        checks.raise_if_any()
        size = min(request.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
        found = await self._searches.list(
            SearchQuery(
                request.experiment,
                states_from_proto(request.states),
                size + 1,
                self._paging.position(request) if request.page_token else "",
            )
        )
        page = found[:size]
        return pb.ListSearchesResponse(
            searches=map(self._now, page),
            next_page_token=(self._paging.token(request, page[-1].id) if len(found) > size else ""),
        )

    async def ListTrials(  # noqa: N802
        self, request: pb.ListTrialsRequest, _context: Context
    ) -> pb.ListTrialsResponse:
        """List a search's trials by number."""
        record = await self._find(request.search_id)
        search = await self._searches.folded(record.id)
        size = min(request.page_size or MAX_PAGE_SIZE, MAX_PAGE_SIZE)
        end = request.first_number + size
        page = search.trials[request.first_number : end]
        return pb.ListTrialsResponse(
            trials=[trial_to_proto(search.trial_view(trial)) for trial in page],
            next_number=end if end < len(search.trials) else None,
        )

    async def WatchSearch(  # noqa: N802
        self, request: pb.WatchSearchRequest, _context: Context
    ) -> AsyncIterator[bytes]:
        """Yield encoded WatchSearchResponses; the entries in them are the bytes in the store."""
        record = await self._find(request.search_id)
        if record.state.is_terminal and request.after_seq > record.last_seq:
            sentence = f"after_seq is {request.after_seq}, but the search's last entry is {record.last_seq}"
            raise InvalidRequest([Violation("after_seq", sentence)])
        after_seq = min(request.after_seq, requests.INT64_MAX)
        with self._limits.stream(auth.current()):
            async for news in self._searches.watch(record.id, after_seq):
                auth.recheck()
                yield response((entry.payload for entry in news.entries), news.waits_for)

    async def UpdateSearch(  # noqa: N802
        self, request: pb.UpdateSearchRequest, _context: Context
    ) -> pb.UpdateSearchResponse:
        """Pause a search, let it go on, or change its budget."""
        paths = check_update(request)
        record = await self._find_own(request.search_id)
        names = [path.removeprefix("budget.") for path in paths if path.startswith("budget.")]
        if names:
            changes = {name: getattr(request.budget, name) for name in names}

            def change(budget: Budget) -> Budget:
                return replace(budget, **changes)

            record = await self._searches.change_budget(record.id, change)
        if "paused" in paths:
            turn = self._searches.pause if request.paused else self._searches.resume
            record = await turn(record.id)
        return pb.UpdateSearchResponse(search=search_of(record))

    async def StopSearch(  # noqa: N802
        self, request: pb.StopSearchRequest, _context: Context
    ) -> pb.StopSearchResponse:
        """Ask a search to stop; returns when the request is recorded."""
        record = await self._find_own(request.search_id)
        record = await self._searches.stop(record.id, with_trials=request.with_trials)
        return pb.StopSearchResponse(search=search_of(record))

    async def EnqueueTrials(  # noqa: N802
        self, request: pb.EnqueueTrialsRequest, _context: Context
    ) -> pb.EnqueueTrialsResponse:
        """Put points in front of what is proposed next."""
        checks = requests.Checks()
        checks.between("points", len(request.points), 1, MAX_POINTS)
        checks.raise_if_any()
        record = await self._find_own(request.search_id)
        spec = (await self._searches.folded(record.id)).spec
        points = [space.point_of(spec, params_from_proto(point.params)) for point in request.points]
        problems = [
            problem
            for index, point in enumerate(points)
            for problem in space.point_problems(spec, index, point)
        ]
        if problems:
            raise InvalidRequest(problems)
        record = await self._searches.enqueue(record.id, points)
        return pb.EnqueueTrialsResponse(search=search_of(record))

    async def DeleteSearch(  # noqa: N802
        self, request: pb.DeleteSearchRequest, _context: Context
    ) -> pb.DeleteSearchResponse:
        """Delete a search that has ended; its runs stay."""
        record = await self._find_own(request.search_id)
        if record.id != request.search_id:
            hint = f"did you mean {record.id}? DeleteSearch needs the whole id"
            raise NotFound("search", request.search_id, hint)
        await self._searches.delete(record.id)
        return pb.DeleteSearchResponse()

    def _idempotency(self, request: pb.CreateSearchRequest) -> IdempotencyRecord | None:
        key = key_of("search", request.idempotency_key)
        return IdempotencyRecord(key, fingerprint(request)) if key else None

    async def _sources(
        self, checks: requests.Checks, wanted: search_pb2.SearchSpec
    ) -> list[Search | Run]:
        """Return the earlier searches and runs that a search is to learn from."""
        found: dict[str, Search | Run] = {}
        for index, source_id in enumerate(wanted.warm_start[:MAX_SOURCES]):
            field = f"warm_start[{index}]"
            if not source_id:
                checks.add(field, f"{field} must not be empty")
                continue
            try:
                source = await self._source(source_id)
            except NotFound as error:
                checks.add(field, str(error))
                continue
            experiment = source.experiment if isinstance(source, Run) else source.spec.experiment
            if experiment != wanted.experiment:
                checks.add(field, f"{source.id} is of {experiment!r}, not {wanted.experiment!r}")
            found[source.id] = source
        return list(found.values())

    async def _source(self, source_id: str) -> Search | Run:
        try:
            record = await self._searches.find(check_search_id(source_id))
        except NotFound as no_search:
            try:
                return await find_run(self._supervisor, source_id)
            except NotFound as no_run:
                hint = no_search.hint or no_run.hint
                raise NotFound("search or run", source_id[:100], hint) from None
        return await self._searches.folded(record.id)

    async def _spec(self, checks: requests.Checks, wanted: search_pb2.SearchSpec) -> SearchSpec:
        """Return what is asked for, all of it held against the experiment's schema."""
        devices = {slot.device for slot, _ in self._supervisor.slots()}
        check_spec(checks, wanted, devices)
        try:
            schema = await self._catalogue.schema(wanted.experiment)
        except (NotFound, ConfigError) as error:
            checks.raise_if_any(Violation("experiment", str(error)))
            raise
        spec = spec_from_proto(wanted, Defaults(Sampler.TPE, secrets.randbits(32)))
        is_open = not wanted.sampler and not wanted.warm_start
        spec, problems = space.resolve(schema, spec, may_be_grid=is_open)
        problems += model_problems(schema, spec.models)
        if not problems and not spec.budget.max_trials and may_be_grid(wanted):
            checks.add("budget.max_trials", NO_END)
        checks.extend(problems)
        checks.raise_if_any()
        return spec

    async def _warnings(self, spec: search_pb2.SearchSpec) -> list[str]:
        """Return what may be a mistake: a metric that no run of the experiment has reported."""
        page = await self._store.list(RunQuery(experiment=spec.experiment, limit=20))
        known = {name for run in page.runs for name in run.metrics}
        metric = spec.objective.metric
        if not known or metric in known:
            return []
        # first those of the whole run, then those of single parameters: "model.fc1.bias"
        names = sorted(known, key=lambda name: (name.count("."), name))
        hint = did_you_mean(metric, names)
        return [f"no recent run of {spec.experiment!r} has reported the metric {metric!r}{hint}"]

    def _now(self, record: SearchRecord) -> search_pb2.Search:
        """Return a search as its row has it; one that does not go on for now says why."""
        message = search_of(record)
        message.reason = message.reason or self._searches.obstacle(record.id)
        return message

    async def _find(self, search_id: str) -> SearchRecord:
        record = await self._searches.find(check_search_id(search_id))
        structlog.contextvars.bind_contextvars(search=record.id)
        return record

    async def _find_own(self, search_id: str) -> SearchRecord:
        record = await self._find(search_id)
        auth.require_owner("search", record.id, record.owner)
        return record

"""The unary RPCs of TrainingService; each checks its request and calls the room that does the work."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import lab_server
from lab_core.errors import Violation
from lab_rpc.v1 import event_pb2, provenance_pb2, run_pb2, training_service_pb2
from lab_server.errors import InvalidRequest, NotFound, Unavailable
from lab_server.executors.catalogue import Catalogue
from lab_server.files.home import Home
from lab_server.files.run_folder import RunFolder
from lab_server.messages import events
from lab_server.messages.configs import (
    experiment_to_proto,
    overrides_from_proto,
    plan_to_proto,
    run_order_from_proto,
    schema_to_proto,
)
from lab_server.messages.runs import (
    fingerprint,
    options_from_proto,
    request_from_proto,
    run_to_proto,
)
from lab_server.model.run import Run, RunState, TagChange
from lab_server.model.upload import Upload
from lab_server.rpc import requests
from lab_server.rpc.calls import auth
from lab_server.rpc.calls.interceptors import Context
from lab_server.rpc.calls.limits import Limits
from lab_server.rpc.files_of_runs import FilesOfRuns
from lab_server.rpc.gpus import Gpus
from lab_server.rpc.media_query import MediaQuery
from lab_server.rpc.paging import Paging
from lab_server.rpc.run_lookup import find_run
from lab_server.rpc.uploads import Uploads
from lab_server.store import RunQuery, Store
from lab_server.supervisor.forecast import Forecast
from lab_server.supervisor.protocol import RunControl
from lab_server.watch import history, media
from lab_server.where import unknown_names

pb = training_service_pb2

_PROVENANCE = frozenset({"provenance"})
_NUM_RUNS_FOR_NAMES: Final = 200


_FORECAST_S = 0.2
"""A list of a thousand runs computes the forecasts once."""


class Service:
    """Handlers named like their RPCs; an interceptor turns their errors into statuses."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        supervisor: RunControl,
        store: Store,
        paging: Paging,
        limits: Limits,
        uploads: Uploads,
        gpus: Gpus,
        home: Path,
        files: FilesOfRuns | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._supervisor = supervisor
        self._store = store
        self._paging = paging
        self._limits = limits
        self._uploads = uploads
        self._gpus = gpus
        self._home = Home(home)
        self._files = files or FilesOfRuns(home)
        self._is_draining = False
        self._known_forecasts: Mapping[str, Forecast] = {}
        self._forecast_time = -math.inf

    def drain(self) -> None:
        """Refuse new runs from now on."""
        self._is_draining = True

    # N802: the names are those of the RPCs
    async def GetServerInfo(  # noqa: N802
        self, request: pb.GetServerInfoRequest, _context: Context
    ) -> pb.GetServerInfoResponse:
        """Get the server's version, slots, queue, GPUs and the caller's role."""
        slots = self._supervisor.slots()
        principal = auth.current()
        return pb.GetServerInfoResponse(
            version=lab_server.__version__,
            slots=[pb.Slot(name=slot.name, run_id=run_id) for slot, run_id in slots],
            queue_length=self._supervisor.queue_length(),
            queue_limit=self._supervisor.queue_limit,
            principal=principal.name,
            role=principal.role.name.lower(),
            # else the leader is asked
            absent_leader=self._supervisor.leader,
            gpus=await self._gpus.read() if request.with_gpus else (),
        )

    async def ListExperiments(  # noqa: N802
        self, _request: pb.ListExperimentsRequest, _context: Context
    ) -> pb.ListExperimentsResponse:
        """List the experiments that the server can run."""
        entries = await self._catalogue.entries()
        return pb.ListExperimentsResponse(experiments=map(experiment_to_proto, entries))

    async def GetExperiment(  # noqa: N802
        self, request: pb.GetExperimentRequest, _context: Context
    ) -> pb.GetExperimentResponse:
        """Get one experiment with the schema of its configs."""
        entry = await self._catalogue.get(request.name, await self._uploads.find(request.upload_id))
        return pb.GetExperimentResponse(
            experiment=experiment_to_proto(entry),
            schema=schema_to_proto(entry.schema) if entry.schema else None,
        )

    async def PlanRun(  # noqa: N802
        self, request: pb.PlanRunRequest, _context: Context
    ) -> pb.PlanRunResponse:
        """Validate a config message and resolve it; run nothing."""
        requests.check_plan(request, self._supervisor.devices)
        overrides = overrides_from_proto(request.config)
        parent = None
        if request.HasField("parent"):
            parent = await self._parent(request.experiment, request.parent)
        upload = await self._upload(request.upload_id, parent)
        experiment = await self._name(request.experiment, upload)
        plan = await self._catalogue.plan(
            experiment,
            overrides,
            run_order_from_proto(request.config),
            request.config.models,
            upload,
        )
        if request.HasField("options"):
            options = options_from_proto(request.options)
            self._supervisor.check_place(options, is_upload=upload is not None)
        answer = plan_to_proto(experiment, plan)
        if parent is not None:
            step = request.parent.step or parent.checkpoint_step
            source = self._home.checkpoint_of(self._run_folder(parent), step)
            answer.start_step = source.step
            total = await self._catalogue.try_fork(experiment, overrides, source, upload)
            if total is not None:
                answer.total_steps = total
        return pb.PlanRunResponse(plan=answer)

    async def CreateRun(  # noqa: N802
        self, request: pb.CreateRunRequest, _context: Context
    ) -> pb.CreateRunResponse:
        """Create a run without starting it."""
        self._refuse_when_draining()
        requests.check_create(request, self._supervisor.devices)
        parent = None
        if request.HasField("parent"):
            parent = await self._parent(request.experiment, request.parent)
        upload = await self._upload(request.upload_id, parent)
        wanted = request_from_proto(request, await self._name(request.experiment, upload), upload)
        plan = await self._catalogue.plan(
            wanted.experiment, wanted.overrides, wanted.run_order, wanted.models, upload
        )
        if parent is not None:
            step = request.parent.step or parent.checkpoint_step
            # one that is gone is for the supervisor to tell: it knows whether the run was created before
            with contextlib.suppress(NotFound):
                source = self._home.checkpoint_of(self._run_folder(parent), step)
                await self._catalogue.try_fork(wanted.experiment, wanted.overrides, source, upload)
        run = await self._supervisor.create(
            wanted,
            owner=auth.current().name,
            config_hash=plan.hash,
            configs=plan.known,
            code_digest=await self._catalogue.code_digest(wanted.experiment, wanted.upload),
            key=self._key("create", request.idempotency_key),
            fingerprint=fingerprint(request),
        )
        return pb.CreateRunResponse(run=await self._with_provenance(run))

    async def StartRun(  # noqa: N802
        self, request: pb.StartRunRequest, _context: Context
    ) -> pb.StartRunResponse:
        """Queue a created run; with resume, a stopped or failed one."""
        self._refuse_when_draining()
        checks = requests.Checks()
        checks.text("idempotency_key", request.idempotency_key, requests.MAX_KEY_CHARS)
        checks.between("until_step", request.until_step, 0, requests.INT64_MAX)
        checks.raise_if_any()
        run = await self._find_own(request.run_id)
        self._uploads.check(run.request.upload)
        # Not the run itself: the call may be a retry.
        others = [live for live in self._supervisor.live() if live.id != run.id]
        self._limits.check_runs(auth.current(), others)
        run = await self._supervisor.start(
            run.id,
            resume=request.resume,
            until_step=request.until_step,
            code_digest=await self._catalogue.code_digest(run.experiment, run.request.upload),
            key=self._key(run.id, request.idempotency_key),
        )
        return pb.StartRunResponse(run=await self._with_provenance(run))

    async def GetRun(  # noqa: N802
        self, request: pb.GetRunRequest, _context: Context
    ) -> pb.GetRunResponse:
        """Get a run as it is now."""
        return pb.GetRunResponse(
            run=await self._with_provenance(await find_run(self._supervisor, request.run_id))
        )

    async def ListRuns(  # noqa: N802
        self, request: pb.ListRunsRequest, _context: Context
    ) -> pb.ListRunsResponse:
        """List runs, the newest first unless asked otherwise."""
        query = self._paging.query(request)
        page = await self._store.list(query)
        return pb.ListRunsResponse(
            runs=[self._to_proto(run) for run in page.runs],
            next_page_token=self._paging.token(request, page.next_after),
            num_all=page.num_all or 0,
            warnings=await self._unknown_names(query) if page.num_all == 0 else (),
        )

    async def UpdateRun(  # noqa: N802
        self, request: pb.UpdateRunRequest, _context: Context
    ) -> pb.UpdateRunResponse:
        """Change a run's name, tags or notes."""
        paths = requests.check_update(request)
        run = await self._find_own(request.run_id)
        tags = TagChange(
            replaced=tuple(request.tags) if "tags" in paths else None,
            added=tuple(request.add_tags),
            removed=frozenset(request.remove_tags),
        )
        requests.check_all_tags(tags.of(run.request.tags))
        run = await self._supervisor.update(
            run.id,
            name=request.name if "name" in paths else None,
            tags=tags,
            notes=request.notes if "notes" in paths else None,
        )
        return pb.UpdateRunResponse(run=await self._with_provenance(run))

    async def DeleteRun(  # noqa: N802
        self, request: pb.DeleteRunRequest, _context: Context
    ) -> pb.DeleteRunResponse:
        """Delete a run that has ended, with all its files."""
        run = await self._find_own(request.run_id, is_exact=True)
        await self._supervisor.delete(run.id)
        return pb.DeleteRunResponse()

    async def SaveCheckpoint(  # noqa: N802
        self, request: pb.SaveCheckpointRequest, _context: Context
    ) -> pb.SaveCheckpointResponse:
        """Ask a run that trains for a checkpoint; returns when the request is sent."""
        run = await self._find_own(request.run_id)
        run = await self._supervisor.save_checkpoint(run.id)
        return pb.SaveCheckpointResponse(run=await self._with_provenance(run))

    async def StopRun(  # noqa: N802
        self, request: pb.StopRunRequest, _context: Context
    ) -> pb.StopRunResponse:
        """Ask a run to stop; returns when the request is recorded."""
        checks = requests.Checks()
        checks.seconds("grace_s", request.grace_s)
        checks.raise_if_any()
        run = await self._find_own(request.run_id)
        run = await self._supervisor.stop(
            run.id,
            checkpoint=request.checkpoint,
            grace_s=request.grace_s if request.HasField("grace_s") else None,
        )
        return pb.StopRunResponse(run=await self._with_provenance(run))

    async def QueryMetrics(  # noqa: N802
        self, request: pb.QueryMetricsRequest, _context: Context
    ) -> pb.QueryMetricsResponse:
        """Get a run's metrics, downsampled to a number of points."""
        requests.check_patterns(request.names)
        run = await find_run(self._supervisor, request.run_id)
        series = await history.query_metrics(
            self._store,
            run.id,
            names=tuple(request.names),
            max_points=request.max_points,
            min_step=request.min_step if request.HasField("min_step") else None,
            max_step=request.max_step if request.HasField("max_step") else None,
        )
        return pb.QueryMetricsResponse(
            series=[
                pb.MetricSeries(
                    name=s.name,
                    steps=s.steps,
                    values=s.values,
                    num_points=s.num_points,
                    min_value=s.min_value,
                    max_value=s.max_value,
                    last_value=s.last_value,
                )
                for s in series
            ]
        )

    async def QueryMedia(  # noqa: N802
        self, request: pb.QueryMediaRequest, _context: Context
    ) -> pb.QueryMediaResponse:
        """Get images, texts, histograms and indexed values that a run tracked."""
        wanted = MediaQuery.of(request)
        run = await find_run(self._supervisor, request.run_id)
        page = await media.query_media(self._store, run.id, wanted.matches, wanted.after_seq)
        token = "" if page.next_seq is None else str(page.next_seq)
        return pb.QueryMediaResponse(items=page.items, next_page_token=token)

    async def ListArtifacts(  # noqa: N802
        self, request: pb.ListArtifactsRequest, _context: Context
    ) -> pb.ListArtifactsResponse:
        """List the files of a run."""
        run = await find_run(self._supervisor, request.run_id)
        found = await self._files.list_all(run)
        return pb.ListArtifactsResponse(
            artifacts=[event_pb2.Artifact(path=a.path, size_bytes=a.size_bytes) for a in found]
        )

    async def _with_provenance(self, run: Run) -> run_pb2.Run:
        """Return a run with what only its log has: too much for a list of runs."""
        if not run.provenance_seq:
            return self._to_proto(run)
        found = await self._store.events(run.id, run.provenance_seq - 1, 1, _PROVENANCE)
        # none: it was deleted just now
        provenance = events.decode(found[0].payload).provenance if found else None
        return self._to_proto(run, provenance)

    async def _unknown_names(self, query: RunQuery) -> list[str]:
        """Return a sentence about each name of a condition that no recent run has."""
        if query.where is None:
            return []
        known = await self._store.names(_NUM_RUNS_FOR_NAMES)
        return unknown_names(query.where, known)

    def _to_proto(
        self, run: Run, provenance: provenance_pb2.Provenance | None = None
    ) -> run_pb2.Run:
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
            folder=self._folder(run),
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

    def _folder(self, run: Run) -> Path:
        return self._run_folder(run).path

    def _run_folder(self, run: Run) -> RunFolder:
        return self._home.run_folder(run.experiment, run.id)

    async def _find_own(self, run_id: str, *, is_exact: bool = False) -> Run:
        run = await find_run(self._supervisor, run_id)
        if is_exact and run.id != run_id:
            raise NotFound("run", run_id, f"did you mean {run.id}? DeleteRun needs the whole id")
        auth.require_ownership(run)
        return run

    async def _upload(self, upload_id: str, parent: Run | None) -> Upload | None:
        """Return the code to run: what the caller names, for a fork else that of the other run."""
        if upload_id or parent is None:
            return await self._uploads.find(upload_id)
        self._uploads.check(parent.request.upload)
        return parent.request.upload

    async def _name(self, experiment: str, upload: Upload | None) -> str:
        """Return the experiment's name, which need not be said of an upload with one experiment."""
        return (await self._catalogue.get(experiment, upload)).name if upload else experiment

    async def _parent(self, experiment: str, wanted: run_pb2.RunParent) -> Run:
        """Return the run that a fork is to continue."""
        parent = await find_run(self._supervisor, wanted.run_id)
        if parent.id != wanted.run_id:
            raise NotFound("run", wanted.run_id, f"did you mean {parent.id}?")
        if experiment and parent.experiment != experiment:
            sentence = f"run {parent.id} is of experiment {parent.experiment!r}; a fork must be of the same experiment"
            raise InvalidRequest([Violation("parent.run_id", sentence)])
        return await self._supervisor.bring_files(parent)

    def _refuse_when_draining(self) -> None:
        if self._is_draining:
            raise Unavailable("the server is stopping and takes no new runs; try again in a minute")

    def _key(self, purpose: str, key: str) -> str | None:
        # Keys are per principal: nobody gets another's run by guessing its key.
        return f"{auth.current().name}/{purpose}/{key}" if key else None

"""The RPCs by which runs come to be: a config message is checked, and becomes a plan or a run."""

from __future__ import annotations

import contextlib

from lab_core.errors import Violation
from lab_rpc.v1 import run_pb2, training_service_pb2
from lab_server.errors import InvalidRequest, NotFound
from lab_server.executors.catalogue import Catalogue
from lab_server.files.home import Home
from lab_server.messages.configs import overrides_from_proto, plan_to_proto, run_order_from_proto
from lab_server.messages.runs import fingerprint, options_from_proto, request_from_proto
from lab_server.model.fork import ForkSource
from lab_server.model.run import Run
from lab_server.model.upload import Upload
from lab_server.rpc import requests
from lab_server.rpc.calls import auth
from lab_server.rpc.calls.interceptors import Context
from lab_server.rpc.intake import Intake, key_of
from lab_server.rpc.run_lookup import find_run
from lab_server.rpc.run_views import RunViews
from lab_server.rpc.uploads import Uploads
from lab_server.supervisor.protocol import RunControl

pb = training_service_pb2


class RunCreation:
    """Handlers named like their RPCs.

    Args:
        catalogue: the experiments, and what config messages resolve to.
        supervisor: makes the runs.
        uploads: code that clients sent.
        intake: whether runs are taken.
        views: runs as messages.
        home: has the checkpoints that forks start from.
    """

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        supervisor: RunControl,
        uploads: Uploads,
        intake: Intake,
        views: RunViews,
        home: Home,
    ) -> None:
        self._catalogue = catalogue
        self._supervisor = supervisor
        self._uploads = uploads
        self._intake = intake
        self._views = views
        self._home = home

    # N802: the names are those of the RPCs
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
            source = self._checkpoint(parent, request.parent.step)
            answer.start_step = source.step
            total = await self._catalogue.try_fork(experiment, overrides, source, upload)
            if total is not None:
                answer.total_steps = total
        return pb.PlanRunResponse(plan=answer)

    async def CreateRun(  # noqa: N802
        self, request: pb.CreateRunRequest, _context: Context
    ) -> pb.CreateRunResponse:
        """Create a run without starting it."""
        self._intake.check()
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
            # one that is gone is for the supervisor to tell: it knows whether the run was created before
            with contextlib.suppress(NotFound):
                source = self._checkpoint(parent, request.parent.step)
                await self._catalogue.try_fork(wanted.experiment, wanted.overrides, source, upload)
        run = await self._supervisor.create(
            wanted,
            owner=auth.current().name,
            config_hash=plan.hash,
            configs=plan.known,
            code_digest=await self._catalogue.code_digest(wanted.experiment, wanted.upload),
            key=key_of("create", request.idempotency_key),
            fingerprint=fingerprint(request),
        )
        return pb.CreateRunResponse(run=await self._views.whole(run))

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

    def _checkpoint(self, parent: Run, step: int) -> ForkSource:
        """Return the checkpoint that a fork starts from: of a step, or the last for 0."""
        folder = self._home.run_folder(parent.experiment, parent.id)
        return self._home.checkpoint_of(folder, step or parent.checkpoint_step)

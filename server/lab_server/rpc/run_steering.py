"""The RPCs that change a run: start, stop, save, rename, delete; only its owner and admins may."""

from __future__ import annotations

from lab_rpc.v1 import training_service_pb2
from lab_server.errors import NotFound
from lab_server.executors.catalogue import Catalogue
from lab_server.model.run import Run, TagChange
from lab_server.rpc import requests
from lab_server.rpc.calls import auth
from lab_server.rpc.calls.interceptors import Context
from lab_server.rpc.calls.limits import Limits
from lab_server.rpc.intake import Intake, key_of
from lab_server.rpc.run_lookup import find_run
from lab_server.rpc.run_views import RunViews
from lab_server.rpc.uploads import Uploads
from lab_server.supervisor.protocol import RunControl

pb = training_service_pb2


class RunSteering:
    """Handlers named like their RPCs.

    Args:
        catalogue: knows which code an experiment has now.
        supervisor: does what is asked.
        uploads: code that clients sent.
        limits: of live runs for each caller.
        intake: whether runs are taken.
        views: runs as messages.
    """

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        supervisor: RunControl,
        uploads: Uploads,
        limits: Limits,
        intake: Intake,
        views: RunViews,
    ) -> None:
        self._catalogue = catalogue
        self._supervisor = supervisor
        self._uploads = uploads
        self._limits = limits
        self._intake = intake
        self._views = views

    # N802: the names are those of the RPCs
    async def StartRun(  # noqa: N802
        self, request: pb.StartRunRequest, _context: Context
    ) -> pb.StartRunResponse:
        """Queue a created run; with resume, a stopped or failed one."""
        self._intake.check()
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
            key=key_of(run.id, request.idempotency_key),
        )
        return pb.StartRunResponse(run=await self._views.whole(run))

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
        return pb.StopRunResponse(run=await self._views.whole(run))

    async def SaveCheckpoint(  # noqa: N802
        self, request: pb.SaveCheckpointRequest, _context: Context
    ) -> pb.SaveCheckpointResponse:
        """Ask a run that trains for a checkpoint; returns when the request is sent."""
        run = await self._find_own(request.run_id)
        run = await self._supervisor.save_checkpoint(run.id)
        return pb.SaveCheckpointResponse(run=await self._views.whole(run))

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
        return pb.UpdateRunResponse(run=await self._views.whole(run))

    async def DeleteRun(  # noqa: N802
        self, request: pb.DeleteRunRequest, _context: Context
    ) -> pb.DeleteRunResponse:
        """Delete a run that has ended, with all its files."""
        run = await self._find_own(request.run_id, is_exact=True)
        await self._supervisor.delete(run.id)
        return pb.DeleteRunResponse()

    async def _find_own(self, run_id: str, *, is_exact: bool = False) -> Run:
        run = await find_run(self._supervisor, run_id)
        if is_exact and run.id != run_id:
            raise NotFound("run", run_id, f"did you mean {run.id}? DeleteRun needs the whole id")
        auth.require_ownership(run)
        return run

"""The RPCs that read runs: their rows, metrics, media and files."""

from __future__ import annotations

from typing import Final

from lab_rpc.v1 import event_pb2, training_service_pb2
from lab_server.rpc import requests
from lab_server.rpc.calls.interceptors import Context
from lab_server.rpc.files_of_runs import FilesOfRuns
from lab_server.rpc.media_query import MediaQuery
from lab_server.rpc.paging import Paging
from lab_server.rpc.run_lookup import find_run
from lab_server.rpc.run_views import RunViews
from lab_server.store import RunQuery, Store
from lab_server.supervisor.protocol import RunControl
from lab_server.watch import history, media
from lab_server.where import unknown_names

pb = training_service_pb2

_NUM_RUNS_FOR_NAMES: Final = 200


class RunReads:
    """Handlers named like their RPCs.

    Args:
        supervisor: knows the runs that live.
        store: has all of them.
        paging: of lists.
        files: of runs.
        views: runs as messages.
    """

    def __init__(
        self,
        *,
        supervisor: RunControl,
        store: Store,
        paging: Paging,
        files: FilesOfRuns,
        views: RunViews,
    ) -> None:
        self._supervisor = supervisor
        self._store = store
        self._paging = paging
        self._files = files
        self._views = views

    # N802: the names are those of the RPCs
    async def GetRun(  # noqa: N802
        self, request: pb.GetRunRequest, _context: Context
    ) -> pb.GetRunResponse:
        """Get a run as it is now."""
        run = await find_run(self._supervisor, request.run_id)
        return pb.GetRunResponse(run=await self._views.whole(run))

    async def ListRuns(  # noqa: N802
        self, request: pb.ListRunsRequest, _context: Context
    ) -> pb.ListRunsResponse:
        """List runs, the newest first unless asked otherwise."""
        query = self._paging.query(request)
        page = await self._store.list(query)
        return pb.ListRunsResponse(
            runs=[self._views.brief(run) for run in page.runs],
            next_page_token=self._paging.token(request, page.next_after),
            num_all=page.num_all or 0,
            warnings=await self._unknown_names(query) if page.num_all == 0 else (),
        )

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

    async def _unknown_names(self, query: RunQuery) -> list[str]:
        """Return a sentence about each name of a condition that no recent run has."""
        if query.where is None:
            return []
        known = await self._store.names(_NUM_RUNS_FOR_NAMES)
        return unknown_names(query.where, known)

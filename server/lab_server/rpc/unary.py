"""The unary RPCs of TrainingService, each from the part that answers it."""

from __future__ import annotations

from lab_server.executors.catalogue import Catalogue
from lab_server.files.home import Home
from lab_server.rpc.calls.limits import Limits
from lab_server.rpc.files_of_runs import FilesOfRuns
from lab_server.rpc.gpus import Gpus
from lab_server.rpc.intake import Intake
from lab_server.rpc.paging import Paging
from lab_server.rpc.run_creation import RunCreation
from lab_server.rpc.run_reads import RunReads
from lab_server.rpc.run_steering import RunSteering
from lab_server.rpc.run_views import RunViews
from lab_server.rpc.server_info import ServerInfo
from lab_server.rpc.uploads import Uploads
from lab_server.store import Store
from lab_server.supervisor.protocol import RunControl


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
        home: Home,
        files: FilesOfRuns,
    ) -> None:
        self._intake = Intake()
        views = RunViews(supervisor, store, home)
        info = ServerInfo(catalogue, supervisor, uploads, gpus)
        creation = RunCreation(
            catalogue=catalogue,
            supervisor=supervisor,
            uploads=uploads,
            intake=self._intake,
            views=views,
            home=home,
        )
        steering = RunSteering(
            catalogue=catalogue,
            supervisor=supervisor,
            uploads=uploads,
            limits=limits,
            intake=self._intake,
            views=views,
        )
        reads = RunReads(
            supervisor=supervisor,
            store=store,
            paging=paging,
            files=files,
            views=views,
        )
        self.GetServerInfo = info.GetServerInfo
        self.ListExperiments = info.ListExperiments
        self.GetExperiment = info.GetExperiment
        self.PlanRun = creation.PlanRun
        self.CreateRun = creation.CreateRun
        self.StartRun = steering.StartRun
        self.StopRun = steering.StopRun
        self.SaveCheckpoint = steering.SaveCheckpoint
        self.UpdateRun = steering.UpdateRun
        self.DeleteRun = steering.DeleteRun
        self.GetRun = reads.GetRun
        self.ListRuns = reads.ListRuns
        self.QueryMetrics = reads.QueryMetrics
        self.QueryMedia = reads.QueryMedia
        self.ListArtifacts = reads.ListArtifacts

    def drain(self) -> None:
        """Refuse new runs from now on."""
        self._intake.close()

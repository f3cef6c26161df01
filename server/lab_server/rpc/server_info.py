"""The RPCs about the server: what it is, and which experiments it can run."""

from __future__ import annotations

import lab_server
from lab_rpc.v1 import training_service_pb2
from lab_server.executors.catalogue import Catalogue
from lab_server.messages.configs import experiment_to_proto, schema_to_proto
from lab_server.rpc.calls import auth
from lab_server.rpc.calls.interceptors import Context
from lab_server.rpc.gpus import Gpus
from lab_server.rpc.uploads import Uploads
from lab_server.supervisor.protocol import RunControl

pb = training_service_pb2


class ServerInfo:
    """Handlers named like their RPCs.

    Args:
        catalogue: the experiments.
        supervisor: knows the slots and the queue.
        uploads: code that clients sent.
        gpus: what they do.
    """

    def __init__(
        self, catalogue: Catalogue, supervisor: RunControl, uploads: Uploads, gpus: Gpus
    ) -> None:
        self._catalogue = catalogue
        self._supervisor = supervisor
        self._uploads = uploads
        self._gpus = gpus

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

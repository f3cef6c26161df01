"""The server: its slots, its queue, its GPUs and disk, and who you are."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from aiohttp import web

from lab_rpc.v1 import run_pb2, training_service_pb2
from lab_server.api.gate import Gate
from lab_server.api.routes import method_of
from lab_server.messages.events import STATES
from lab_server.model.run import RunState
from lab_server.pages.render import Pages
from lab_server.pages.rows import percent_of
from lab_server.rpc.site_parts import SiteParts

pb = training_service_pb2


@dataclass(frozen=True, slots=True)
class Place:
    """Where a slot or a GPU is: the pool and the agent, both "" on the server's own machine, and its name there."""

    pool: str
    agent: str
    name: str

    @classmethod
    def of(cls, slot_name: str) -> Place:
        """Return where a slot is; those of agents are "pool/agent/cuda:1"."""
        pool, _, rest = slot_name.rpartition("/")[0].partition("/")
        return cls(pool, rest, slot_name.rpartition("/")[2])


class ServerPage:
    """Serves `/server`."""

    def __init__(self, gate: Gate, pages: Pages, parts: SiteParts) -> None:
        self._gate = gate
        self._pages = pages
        self._parts = parts

    async def show(self, request: web.Request) -> web.StreamResponse:
        """Show the server."""
        self._gate.admit(request, method_of("GetServerInfo"))
        service = self._parts.service
        info = await service.GetServerInfo(pb.GetServerInfoRequest(with_gpus=True), None)
        slots = [(Place.of(slot.name), await self._run(slot.run_id)) for slot in info.slots]
        wanted = pb.ListRunsRequest(states=[STATES[RunState.QUEUED]], page_size=1000)
        waiting = (await service.ListRuns(wanted, None)).runs
        gpus = [(Place(gpu.pool, gpu.agent, gpu.reading.device), gpu.reading) for gpu in info.gpus]
        disk = shutil.disk_usage(self._parts.home)
        values = {
            "info": info,
            "slots": slots,
            "waiting": sorted(waiting, key=lambda run: run.queue_position),
            "disk": disk,
            "gpus": gpus,
            "has_agents": any(place.agent for place, _ in [*slots, *gpus]),
            "percent_of": percent_of,
        }
        return self._pages.page("server.html", values)

    async def _run(self, run_id: str) -> run_pb2.Run | None:
        if not run_id:
            return None
        return (await self._parts.service.GetRun(pb.GetRunRequest(run_id=run_id), None)).run

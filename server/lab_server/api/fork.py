"""Forks: a run from another one's checkpoint, with its configs and changes to them."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from lab_rpc.v1 import run_pb2, training_service_pb2
from lab_server.api.calls import check_no_query, check_settable, read_json
from lab_server.api.errors import json_response
from lab_server.api.gate import Gate
from lab_server.api.json_messages import from_json, to_json
from lab_server.api.routes import PREFIX, Route
from lab_server.rpc.unary import Service

pb = training_service_pb2

PATH: Final = f"{PREFIX}/runs/{{run_id}}/fork"
ROUTE: Final = Route(
    *("POST", PATH, "CreateRun", "Create a run from another one's checkpoint."),
    left_out=frozenset({"experiment", "parent", "run_id"}),
)


class ForkEndpoint:
    """Serves `/runs/{run_id}/fork`."""

    def __init__(self, gate: Gate, service: Service) -> None:
        self._gate = gate
        self._service = service

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Create the fork, which does not start yet."""
        self._gate.admit(request, ROUTE.method)
        check_no_query(request)
        data = await read_json(request)
        parent = run_pb2.RunParent()
        from_json(parent, {"step": data.pop("step", None)})
        check_settable(ROUTE, data)
        wanted = pb.CreateRunRequest()
        from_json(wanted, data)
        found = await self._service.GetRun(
            pb.GetRunRequest(run_id=request.match_info["run_id"]), None
        )
        fork = fork_request(found.run, wanted, parent.step)
        return json_response(to_json(await self._service.CreateRun(fork, None)))


def fork_request(
    parent: run_pb2.Run, changes: pb.CreateRunRequest, step: int
) -> pb.CreateRunRequest:
    """Return the request for a fork: what the changes do not say is as the parent has it.

    Args:
        parent: the run to continue.
        changes: the configs that change; name, tags, notes, options and code of the fork.
        step: of the checkpoint; 0 takes the newest.
    """
    fork = pb.CreateRunRequest(
        experiment=parent.experiment,
        config=parent.config,
        options=changes.options if changes.HasField("options") else parent.options,
        name=changes.name or parent.name,
        tags=changes.tags or parent.tags,
        notes=changes.notes,
        idempotency_key=changes.idempotency_key,
        upload_id=changes.upload_id,
        parent=run_pb2.RunParent(run_id=parent.id, step=step),
    )
    for key, value in changes.config.overrides.items():
        fork.config.overrides[key].CopyFrom(value)
    if changes.config.run_order:
        del fork.config.run_order[:]
        fork.config.run_order.extend(changes.config.run_order)
    if changes.config.models:
        fork.config.models[:] = changes.config.models
    return fork


def body_schema(of_create: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of the body, from that of what creates a run."""
    hidden = ROUTE.left_out
    properties = {k: v for k, v in of_create["properties"].items() if k not in hidden}
    step = {
        "type": ["integer", "null"],
        "minimum": 0,
        "maximum": 2**63 - 1,
        "description": "Of the checkpoint; null or 0 takes the newest.",
    }
    return {**of_create, "properties": {**properties, "step": step}}

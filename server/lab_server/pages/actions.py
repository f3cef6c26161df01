"""What the pages' buttons do: each is a call of the service, and then a page again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import quote

from aiohttp import web

from lab_core.errors import LabError
from lab_rpc.v1 import training_service_pb2
from lab_server.api.errors import Refused, error_json, http_status
from lab_server.api.gate import Gate
from lab_server.api.routes import method_of
from lab_server.pages.forms import Form, read_form
from lab_server.pages.login import safe_target
from lab_server.pages.render import Pages
from lab_server.rpc.site_parts import SiteParts
from lab_server.rpc.unary import Service

pb = training_service_pb2
Action = Callable[[Service, str, Form], Awaitable[object]]


async def _start(service: Service, run_id: str, _form: Form) -> object:
    return await service.StartRun(pb.StartRunRequest(run_id=run_id), None)


async def _resume(service: Service, run_id: str, form: Form) -> object:
    wanted = pb.StartRunRequest(run_id=run_id, resume=True)
    wanted.until_step = max(-(2**63), min(form.whole("until_step"), 2**63 - 1))
    return await service.StartRun(wanted, None)


async def _stop(service: Service, run_id: str, _form: Form) -> object:
    return await service.StopRun(pb.StopRunRequest(run_id=run_id), None)


async def _save_and_stop(service: Service, run_id: str, _form: Form) -> object:
    return await service.StopRun(pb.StopRunRequest(run_id=run_id, checkpoint=True), None)


async def _delete(service: Service, run_id: str, _form: Form) -> object:
    return await service.DeleteRun(pb.DeleteRunRequest(run_id=run_id), None)


async def _update(service: Service, run_id: str, form: Form) -> object:
    tags = [tag.strip() for tag in form.text("tags").split(",") if tag.strip()]
    wanted = pb.UpdateRunRequest(
        run_id=run_id, name=form.text("name"), tags=tags, notes=form.text("notes")
    )
    wanted.update_mask.paths.extend(["name", "tags", "notes"])
    return await service.UpdateRun(wanted, None)


async def _tag(service: Service, run_id: str, form: Form) -> object:
    wanted = pb.UpdateRunRequest(run_id=run_id, add_tags=[form.text("tag")])
    return await service.UpdateRun(wanted, None)


_ACTIONS: Final[Mapping[str, tuple[str, Action]]] = {
    "start": ("StartRun", _start),
    "resume": ("StartRun", _resume),
    "stop": ("StopRun", _stop),
    "save-and-stop": ("StopRun", _save_and_stop),
    "delete": ("DeleteRun", _delete),
    "update": ("UpdateRun", _update),
    "tag": ("UpdateRun", _tag),
}
_ON_SEVERAL: Final = ("stop", "delete", "tag")
_MAX_RUNS: Final = 1000


class Actions:
    """Serves the forms that change runs."""

    def __init__(self, gate: Gate, pages: Pages, parts: SiteParts) -> None:
        self._gate = gate
        self._pages = pages
        self._service = parts.service

    async def on_one(self, request: web.Request) -> web.StreamResponse:
        """Do something with a run, and go back to its page, or to the runs if it is gone."""
        name, run_id = request.match_info["action"], request.match_info["run_id"]
        action = self._admitted(request, name, tuple(_ACTIONS))
        form = await read_form(request)
        await action(self._service, run_id, form)
        raise web.HTTPSeeOther("/" if name == "delete" else f"/runs/{quote(run_id, safe='')}")

    async def on_several(self, request: web.Request) -> web.StreamResponse:
        """Do something with each run that is selected, and tell what could not be done."""
        form = await read_form(request)
        name = form.text("action")
        run_ids = form.texts("runs")[:_MAX_RUNS]
        if name == "compare":
            query = "&".join(f"runs={quote(run_id, safe='')}" for run_id in run_ids)
            raise web.HTTPSeeOther(f"/compare?{query}")
        action = self._admitted(request, name, _ON_SEVERAL)
        if not run_ids:
            raise Refused(400, "NO_RUNS", "select the runs first")
        failed = []
        for run_id in run_ids:
            try:
                await action(self._service, run_id, form)
            except LabError as error:
                failed.append((run_id, error))
        target = safe_target(form.text("next"))
        if not failed:
            raise web.HTTPSeeOther(target)
        values = {
            "action": name,
            "num_done": len(run_ids) - len(failed),
            "failed": [(run_id, error_json(error)["error"]["message"]) for run_id, error in failed],
            "next": target,
        }
        return self._pages.page("failed.html", values, status=http_status(failed[0][1]))

    def _admitted(self, request: web.Request, name: str, known: tuple[str, ...]) -> Action:
        if name not in known:
            raise Refused(404, "NO_ACTION", f"there is no action {name[:100]!r}")
        rpc, action = _ACTIONS[name]
        self._gate.admit(request, method_of(rpc))
        return action

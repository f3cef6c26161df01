"""A run: its charts, log, configs, history and files, and what can be done with it."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import Sequence
from typing import Any, Final

from aiohttp import web

from lab_core.errors import LabError
from lab_rpc.v1 import config_pb2, event_pb2, run_pb2, training_service_pb2
from lab_server.api.gate import Gate
from lab_server.api.routes import method_of
from lab_server.errors import Unavailable
from lab_server.messages.runs import STATES_FROM_PROTO
from lab_server.messages.values import value_from_proto
from lab_server.model.log_level import LogLevel
from lab_server.model.run import RunState
from lab_server.pages.render import Pages, config_text
from lab_server.pages.rows import main_metrics, overrides_of, percent_of
from lab_server.rpc.calls.status import Forwarded
from lab_server.rpc.logs import LogPart
from lab_server.rpc.site_parts import SiteParts

pb = training_service_pb2

_LOG_BYTES: Final = 65536
_DIFF_BYTES: Final = 200_000
_MAX_METRICS: Final = 200
_MAX_FILES: Final = 500
_PATIENCE_S: Final = 5.0
"""How long the leader, or the server that has a run's files, may take: without them there is less on the page."""


class RunPage:
    """Serves `/runs/{run_id}`, and `/runs/{run_id}/now`: what of it changes while the run trains."""

    def __init__(self, gate: Gate, pages: Pages, parts: SiteParts) -> None:
        self._gate = gate
        self._pages = pages
        self._parts = parts

    async def show(self, request: web.Request) -> web.StreamResponse:
        """Show the run."""
        self._gate.admit(request, method_of("GetRun"))
        service = self._parts.service
        run_id = request.match_info["run_id"]
        run = (await service.GetRun(pb.GetRunRequest(run_id=run_id), None)).run
        if run.id != run_id:
            raise web.HTTPSeeOther(f"/runs/{run.id}")
        files, log, diff = await self._files(run)
        configs, why_not_all = await self._configs(run)
        history = await self._parts.timeline.read(run.id)
        values = _what_changes(run) | {
            "actions": _actions(STATES_FROM_PROTO[run.state], run),
            "traceback": history[-1].traceback if history else "",
            "configs": configs,
            "why_not_all": why_not_all,
            "history": history,
            "has_media": await self._parts.media.has_any(run.id),
            "log": log,
            "checkpoints": _checkpoints(files),
            "files": [file for file in files if _is_shown(file.path)][:_MAX_FILES],
            "diff": diff,
            "command": command_of(run),
            "sdk": sdk_of(run),
        }
        return self._pages.page("run.html", values)

    async def show_now(self, request: web.Request) -> web.StreamResponse:
        """Show what changes while the run trains, for its page: all of it takes the server five times as long.

        Without last values, unless `values` is 1 in the query.
        """
        self._gate.admit(request, method_of("GetRun"))
        wanted = pb.GetRunRequest(run_id=request.match_info["run_id"])
        run = (await self._parts.service.GetRun(wanted, None)).run
        has_values = request.query.get("values") == "1"
        traceback = ""
        if STATES_FROM_PROTO[run.state] is RunState.FAILED:
            history = await self._parts.timeline.read(run.id)
            traceback = history[-1].traceback if history else ""
        values = _what_changes(run) | {"traceback": traceback, "has_values": has_values}
        return self._pages.page("run_now.html", values)

    async def _files(self, run: run_pb2.Run) -> tuple[list[event_pb2.Artifact], LogPart, str]:
        """Return a run's files, its log's end and its diff; without them the log says where they are."""
        service, logs = self._parts.service, self._parts.logs
        try:
            async with asyncio.timeout(_PATIENCE_S):
                found = await service.ListArtifacts(pb.ListArtifactsRequest(run_id=run.id), None)
                log = await logs.read(run.id, -_LOG_BYTES, _LOG_BYTES)
                diff = await logs.read_file(run.id, "source.diff", _DIFF_BYTES)
        except (Unavailable, Forwarded, TimeoutError) as error:
            why = str(error) or "the server that has its files does not answer"
            return [], LogPart(f"{why}\n", 0, 0, 0, (LogLevel.WARNING,)), ""
        return list(found.artifacts), log, diff

    async def _configs(self, run: run_pb2.Run) -> tuple[list[dict[str, Any]], str]:
        """Return every config with its value, origin and doc; of an experiment that is gone what was set, and why."""
        docs: dict[str, str] = {}
        try:
            wanted = pb.PlanRunRequest(
                experiment=run.experiment, config=run.config, upload_id=run.upload_id
            )
            async with asyncio.timeout(_PATIENCE_S):
                answer = await self._parts.service.PlanRun(wanted, None)
                asked = pb.GetExperimentRequest(name=run.experiment, upload_id=run.upload_id)
                schema = (await self._parts.service.GetExperiment(asked, None)).schema
            items: Sequence[config_pb2.PlanItem] = answer.plan.items
            docs = {item.key: item.doc for item in schema.items}
        except (LabError, TimeoutError) as error:
            return [
                {"key": key, "value": config_text(value), "origin": "override", "doc": ""}
                for key, value in sorted(overrides_of(run).items())
            ], str(error).partition("\n")[0] or "the server does not answer"
        return [
            {
                "key": item.key,
                "value": _planned(item, run),
                "origin": config_pb2.ValueOrigin.Name(item.origin)
                .removeprefix("VALUE_ORIGIN_")
                .lower(),
                "doc": docs.get(item.key, ""),
            }
            for item in items
        ], ""


def _what_changes(run: run_pb2.Run) -> dict[str, Any]:
    """Return what the page shows of a run, and changes while it trains."""
    return {
        "run": run,
        "state": STATES_FROM_PROTO[run.state],
        "percent": percent_of(run),
        "names": main_metrics([run], _MAX_METRICS),
        "all_names": json.dumps(sorted(run.metrics)),
    }


def _planned(item: config_pb2.PlanItem, run: run_pb2.Run) -> str:
    if item.key in run.configs:  # a default may have been edited since
        return config_text(value_from_proto(run.configs[item.key]))
    if item.HasField("value"):
        return config_text(value_from_proto(item.value))
    return item.option


def _actions(state: RunState, run: run_pb2.Run) -> list[tuple[str, str, str]]:
    """Return what can be done in a state: the action, the RPC that it is, and its button."""
    delete = ("delete", "DeleteRun", "Delete")
    match state:
        case RunState.CREATED:
            return [("start", "StartRun", "Start"), delete]
        case RunState.QUEUED:
            return [("stop", "StopRun", "Stop")]
        case RunState.STARTING | RunState.RUNNING:
            return [("save-and-stop", "StopRun", "Save and stop"), ("stop", "StopRun", "Stop")]
        case RunState.STOPPED | RunState.FAILED:
            label = (
                f"Resume at step {run.checkpoint_step}"
                if run.HasField("checkpoint_step")
                else "Start again"
            )
            return [("resume", "StartRun", label), delete]
        case RunState.COMPLETED:
            return [delete]
        case _:
            return []


def _is_shown(path: str) -> bool:
    """Whether a file is listed: checkpoints have a list of their own, and what is hidden is the server's."""
    name = path.rpartition("/")[2]
    is_own = name.endswith((".db-wal", ".db-shm")) or path == "log.levels"
    return not (path.startswith("checkpoints/") or name.startswith(".") or is_own)


def _checkpoints(files: Sequence[Any]) -> list[tuple[int, int]]:
    """Return the steps of the checkpoints, newest first, with their sizes in bytes."""
    sizes: dict[int, int] = {}
    for file in files:
        parts = file.path.split("/")
        if len(parts) > 2 and parts[0] == "checkpoints" and parts[1].isdecimal():
            sizes[int(parts[1])] = sizes.get(int(parts[1]), 0) + file.size_bytes
    return sorted(sizes.items(), reverse=True)


def command_of(run: run_pb2.Run) -> str:
    """Return the command that runs the same again."""
    configs = [f"{key}={config_text(value)}" for key, value in sorted(overrides_of(run).items())]
    return shlex.join(["lab", "run", run.experiment, *configs])


def sdk_of(run: run_pb2.Run) -> str:
    """Return the line of Python that runs the same again."""
    return f"client.create({run.experiment!r}, {dict(sorted(overrides_of(run).items()))!r}).start()"

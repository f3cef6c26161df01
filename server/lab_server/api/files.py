"""The files of a run: downloads, and the end of its log."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any, Final
from urllib.parse import quote

from aiohttp import web

from lab_core.errors import LabError
from lab_rpc.v1 import training_service_pb2
from lab_server.api.errors import json_response
from lab_server.api.gate import Gate
from lab_server.api.parameters import Parameter, read_parameters
from lab_server.api.routes import PREFIX, Route
from lab_server.model.log_level import LogLevel
from lab_server.rpc.logs import Logs
from lab_server.rpc.streams import Streams

pb = training_service_pb2

DOWNLOAD: Final = Route(
    "GET",
    f"{PREFIX}/runs/{{run_id}}/files/{{path}}",
    "DownloadArtifact",
    "Download a file of a run.",
)
LOGS: Final = Route(
    "GET", f"{PREFIX}/runs/{{run_id}}/logs", "WatchRun", "What a run printed; its end unless asked."
)

FILE_PARAMETERS: Final = {
    "offset": Parameter("int", "Where to go on, in bytes.", default=0, low=0, high=2**62)
}
LOG_PARAMETERS: Final = {
    "offset": Parameter(
        "int",
        "Where to begin, in bytes; a negative one counts from the end.",
        default=-65536,
        low=-(2**62),
        high=2**62,
    ),
    "max_bytes": Parameter("int", "How much at most.", default=65536, low=1, high=1 << 20),
}


class FilesEndpoint:
    """Serves `/runs/{run_id}/files/{path}` and `/runs/{run_id}/logs`."""

    def __init__(self, gate: Gate, streams: Streams, logs: Logs) -> None:
        self._gate = gate
        self._streams = streams
        self._logs = logs

    async def download(self, request: web.Request) -> web.StreamResponse:
        """Answer with a file, or what follows an offset in it."""
        self._gate.admit(request, DOWNLOAD.method)
        offset = read_parameters(request, FILE_PARAMETERS)["offset"]
        path = request.match_info["path"]
        wanted = pb.DownloadArtifactRequest(
            run_id=request.match_info["run_id"], path=path, offset=offset
        )
        response = web.StreamResponse()
        try:
            async with aclosing(self._streams.DownloadArtifact(wanted, None)) as chunks:  # type: ignore[type-var]
                async for data in chunks:
                    chunk = pb.DownloadArtifactResponse.FromString(data)
                    if not response.prepared:
                        response.headers.update(_headers(path))
                        response.content_length = chunk.size_bytes - offset
                        await response.prepare(request)
                    if chunk.data:
                        await response.write(chunk.data)
        except LabError:
            if not response.prepared:
                raise
            # an error would be taken for the rest of the file
            if request.transport is not None:
                request.transport.close()
        return response

    async def logs(self, request: web.Request) -> web.StreamResponse:
        """Answer with some of what the run printed, as whole lines."""
        self._gate.admit(request, LOGS.method)
        wanted = read_parameters(request, LOG_PARAMETERS)
        part = await self._logs.read(
            request.match_info["run_id"], wanted["offset"], wanted["max_bytes"]
        )
        return json_response(
            {
                "text": part.text,
                "levels": [level.name for level in part.levels],
                "offset": part.offset,
                "next_offset": part.next_offset,
                "size_bytes": part.size_bytes,
            }
        )


def _headers(path: str) -> dict[str, str]:
    # never shown as a page: an experiment can write anything
    name = quote(path.rpartition("/")[2], safe="")
    return {
        "Content-Type": "application/octet-stream",
        "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }


def log_schema() -> dict[str, Any]:
    """Return the schema of what `logs` answers."""
    whole = {"type": "integer", "minimum": 0}
    return {
        "type": "object",
        "properties": {
            "text": {"type": "string", "description": "Whole lines, unless a line is too long."},
            "levels": {
                "type": "array",
                "items": {"type": "string", "enum": [level.name for level in LogLevel]},
                "description": "For each line of the text what it is.",
            },
            "offset": {**whole, "description": "Where the text begins in the log, in bytes."},
            "next_offset": {**whole, "description": "Where to go on."},
            "size_bytes": {**whole, "description": "Of the whole log, now."},
        },
        "required": ["text", "levels", "offset", "next_offset", "size_bytes"],
        "additionalProperties": False,
    }

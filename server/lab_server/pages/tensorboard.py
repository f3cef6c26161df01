"""TensorBoard behind the session: opened for chosen runs, and each of its requests passed on."""

from __future__ import annotations

import re
from typing import Final

import aiohttp
from aiohttp import web

from lab_rpc.v1 import training_service_pb2
from lab_server.api.bodies import read_body
from lab_server.api.errors import Refused
from lab_server.api.gate import Gate
from lab_server.api.routes import method_of
from lab_server.pages.boards import Boards
from lab_server.pages.forms import read_form
from lab_server.rpc.site_parts import SiteParts

pb = training_service_pb2

MAX_RUNS: Final = 100
_ROLE: Final = "DownloadArtifact"  # it shows what is in the runs' files
_TO_BOARD: Final = ("Accept", "Accept-Encoding", "Content-Type")
_FROM_BOARD: Final = ("Content-Type", "Content-Encoding", "Cache-Control", "Location")
_CHUNK_BYTES: Final = 1 << 16


class TensorboardPages:
    """Serves `/tensorboard`."""

    def __init__(self, gate: Gate, parts: SiteParts, boards: Boards) -> None:
        self._gate = gate
        self._parts = parts
        self._boards = boards

    async def open(self, request: web.Request) -> web.StreamResponse:
        """Start a TensorBoard of the form's runs, and go there."""
        self._gate.admit(request, method_of(_ROLE))
        run_ids = list(dict.fromkeys((await read_form(request)).texts("runs")))
        if not 1 <= len(run_ids) <= MAX_RUNS:
            raise Refused(400, "NO_RUNS", f"select 1 to {MAX_RUNS} runs first, not {len(run_ids)}")
        folders = {}
        for run_id in run_ids:
            wanted = pb.GetRunRequest(run_id=run_id)
            run = (await self._parts.service.GetRun(wanted, None)).run
            folder = (await self._parts.logs.folder(run.id, "tensorboard/")).path / "tensorboard"
            if folder.is_dir() and not folder.is_symlink():  # else it could be anybody's
                name = re.sub(r"[^\w.-]+", "_", run.name, flags=re.ASCII).strip("._")[:60]
                folders[f"{name}-{run.id}" if name else run.id] = folder
        if not folders:
            raise Refused(
                409, "NO_EVENTS", "these runs have written nothing for TensorBoard, or not yet"
            )
        board = await self._boards.open(folders)
        raise web.HTTPSeeOther(f"/tensorboard/{board.key}/")

    async def pass_on(self, request: web.Request) -> web.StreamResponse:
        """Answer as TensorBoard does."""
        self._gate.admit(request, method_of(_ROLE))
        board = self._boards.get(request.match_info["key"])
        if board is None:
            raise Refused(
                404,
                "NO_TENSORBOARD",
                "this TensorBoard has ended; open it again from the runs' pages",
            )
        sent = {name: request.headers[name] for name in _TO_BOARD if name in request.headers}
        try:
            # its Host is no name of this server's; cookies and tokens stay here
            async with board.client.request(
                request.method,
                f"http://tensorboard{request.rel_url}",
                headers=sent,
                data=await read_body(request) if request.can_read_body else None,
                allow_redirects=False,
            ) as answer:
                response = web.StreamResponse(status=answer.status, headers=_headers(answer))
                await response.prepare(request)
                async for data in answer.content.iter_chunked(_CHUNK_BYTES):
                    await response.write(data)
                return response
        except aiohttp.ClientError:
            raise Refused(
                503,
                "NO_TENSORBOARD",
                "TensorBoard does not answer; open it again from the runs' pages",
            ) from None


def _headers(answer: aiohttp.ClientResponse) -> dict[str, str]:
    headers = {name: answer.headers[name] for name in _FROM_BOARD if name in answer.headers}
    return headers | {
        "Content-Security-Policy": own_policy(answer.headers.get("Content-Security-Policy", "")),
        "Referrer-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "same-origin",
    }


def own_policy(policy: str) -> str:
    """Return TensorBoard's own policy without other sites, of which it allows some, and framed by none."""
    directives = []
    for directive in policy.split(";"):
        words = [word for word in directive.split() if "://" not in word]
        if words and words[0] != "frame-ancestors":
            directives.append(" ".join(words))
    known = {directive.split()[0] for directive in directives}
    if "default-src" not in known:
        directives.insert(0, "default-src 'self'")
    return "; ".join([*directives, "frame-ancestors 'self'"])

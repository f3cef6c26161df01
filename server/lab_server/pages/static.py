"""The scripts and styles of the pages: in the package, by a name that changes with their content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from aiohttp import web

from lab_server.api.errors import Refused

_FOLDER: Final = Path(__file__).with_name("static")
_TYPES: Final = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}


@cache
def _files() -> Mapping[str, bytes]:
    found = (path for path in _FOLDER.rglob("*") if path.suffix in _TYPES)
    return {path.relative_to(_FOLDER).as_posix(): path.read_bytes() for path in found}


@cache
def _stamp() -> str:
    digest = hashlib.sha256()
    for name, data in sorted(_files().items()):
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()[:12]


def url_of(name: str) -> str:
    """Return the path of a file; all change when one does, since scripts import each other."""
    assert name in _files(), name
    return f"/static/{_stamp()}/{name}"


async def serve(request: web.Request) -> web.StreamResponse:
    """Answer with a file, which browsers may keep for ever: another content has another path.

    Raises:
        Refused: If there is none.
    """
    name = request.match_info["name"]
    data = _files().get(name)
    if data is None:
        raise Refused(404, "NO_PATH", "there is no such file")
    is_current = request.match_info["stamp"] == _stamp()
    return web.Response(
        body=data,
        content_type=_TYPES[Path(name).suffix],
        charset="utf-8",
        headers={
            "Cache-Control": "public, max-age=31536000, immutable" if is_current else "no-store",
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "same-origin",
        },
    )

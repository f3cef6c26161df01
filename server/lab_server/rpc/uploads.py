"""UploadCode: who may send code, and where it goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import structlog

from lab_core.errors import Violation
from lab_rpc.v1 import training_service_pb2
from lab_server.errors import InvalidRequest, LimitReached, PermissionDenied
from lab_server.files.upload_draft import UploadDraft
from lab_server.files.uploads import UploadStore
from lab_server.messages.uploads import manifest_from_proto
from lab_server.model.roles import Role
from lab_server.model.upload import Upload
from lab_server.rpc.calls import auth
from lab_server.rpc.calls.interceptors import Context
from lab_server.rpc.calls.limits import Limits

pb = training_service_pb2

_log = structlog.get_logger("lab_server.uploads")

_MAX_S = 120.0

_REFUSED = (
    "this server takes no code from clients; whoever runs it can allow that with "
    "`lab-server serve --allow-uploads`"
)


class Uploads:
    """The handler of UploadCode, and what other handlers need of uploads.

    Args:
        store: None if the server takes no code.
        limits: of streams.
    """

    def __init__(self, store: UploadStore | None, limits: Limits) -> None:
        self._store = store
        self._limits = limits

    # N802: the name is that of the RPC
    async def UploadCode(  # noqa: N802
        self, parts: AsyncIterator[pb.UploadCodeRequest], _context: Context
    ) -> pb.UploadCodeResponse:
        """Take code from a client."""
        store = self._allowed()
        with self._limits.stream(auth.current()):
            try:
                async with asyncio.timeout(_MAX_S):
                    upload = await _receive(store, parts)
            except TimeoutError:
                raise LimitReached(f"an upload may take {_MAX_S:g} s; send less code") from None
        return pb.UploadCodeResponse(upload_id=upload.id)

    async def find(self, upload_id: str) -> Upload | None:
        """Return an upload that the caller may run, None for no upload.

        Raises:
            NotFound: If the caller has not sent it.
            PermissionDenied: If the caller, or the server, may not run code of clients.
        """
        if not upload_id:
            return None
        store, caller = self._allowed(), auth.current()
        if caller.role < Role.OPERATOR:
            raise PermissionDenied(
                f"{caller.name} has the role {caller.role.name.lower()}; "
                "running code that was sent needs operator"
            )
        owner = None if caller.role >= Role.ADMIN else caller.name
        return await asyncio.to_thread(store.find, upload_id, owner)

    def check(self, upload: Upload | None) -> None:
        """Check that an upload, of a run that exists, say, may still be run.

        Raises:
            PermissionDenied: If the server takes no code of clients any more.
        """
        if upload is not None:
            self._allowed()

    def _allowed(self) -> UploadStore:
        if self._store is None:
            raise PermissionDenied(_REFUSED)
        return self._store


async def _receive(store: UploadStore, parts: AsyncIterator[pb.UploadCodeRequest]) -> Upload:
    first = await anext(parts, None)
    if first is None or first.WhichOneof("part") != "manifest":
        raise InvalidRequest([Violation("manifest", "the first message must be the manifest")])
    manifest = manifest_from_proto(first.manifest)
    if problems := manifest.problems():
        raise InvalidRequest(problems)
    owner = auth.current().name
    with UploadDraft(store, manifest) as draft:
        async for part in parts:
            if part.WhichOneof("part") != "data":
                sentence = "messages behind the first must have data"
                raise InvalidRequest([Violation("data", sentence)])
            await asyncio.to_thread(draft.write, part.data)
        upload = await asyncio.to_thread(draft.finish, owner)
    _log.info(
        "code was sent",
        upload=upload.id,
        owner=owner,
        module=manifest.module,
        files=len(manifest.files),
        bytes=sum(file.size_bytes for file in manifest.files),
    )
    return upload

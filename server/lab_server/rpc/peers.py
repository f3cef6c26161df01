"""PeerService: what a server tells the others of its store about the files and the code in its home."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import structlog

from lab_rpc.v1 import peer_service_pb2 as pb
from lab_server.errors import InvalidState, NotFound, Unauthenticated
from lab_server.files import artifacts
from lab_server.files.home import Home, remove
from lab_server.files.pieces import read_pieces
from lab_server.files.run_folder import RunFolder
from lab_server.messages.uploads import manifest_to_proto
from lab_server.rpc.calls.auth import authorization
from lab_server.rpc.calls.interceptors import Context
from lab_server.security.host_tokens import HostTokens
from lab_server.store.protocol import Store

_log = structlog.get_logger("lab_server.peers")


class PeerService:
    """Handlers named like their RPCs; an interceptor turns their errors into statuses.

    Args:
        home: whose files they are.
        store: of all servers.
        tokens: by which a server proves that it is one of them.
    """

    def __init__(self, home: Path, store: Store, tokens: HostTokens) -> None:
        self._home = Home(home)
        self._home_id = self._home.server_id()
        self._store = store
        self._tokens = tokens

    # N802: the names are those of the RPCs
    async def ListRunFiles(  # noqa: N802
        self, request: pb.ListRunFilesRequest, context: Context
    ) -> pb.ListRunFilesResponse:
        """List the files of a run."""
        folder = self._folder(request, context)
        found = await artifacts.list_artifacts(folder.path)
        return pb.ListRunFilesResponse(
            files=[pb.RunFile(path=file.path, size_bytes=file.size_bytes) for file in found]
        )

    async def FetchRunFiles(  # noqa: N802
        self, request: pb.FetchRunFilesRequest, context: Context
    ) -> AsyncIterator[bytes]:
        """Yield files."""
        folder = self._folder(request, context).path
        async with aclosing(read_pieces(folder, request.paths, request.offset)) as pieces:
            async for piece in pieces:
                yield pb.FetchRunFilesResponse(
                    path=piece.path,
                    size_bytes=piece.size_bytes,
                    offset=piece.offset,
                    data=piece.data,
                    sha256=piece.sha256,
                ).SerializeToString()

    async def DropRunFiles(  # noqa: N802
        self, request: pb.DropRunFilesRequest, context: Context
    ) -> pb.DropRunFilesResponse:
        """Remove the files of a run that are another home's by now, or nobody's."""
        folder = self._folder(request, context)
        try:
            run = await self._store.get(request.run_id)
        except NotFound:
            run = None
        if run is not None and run.home in ("", self._home_id):
            raise InvalidState(f"the files of run {run.id} are kept here")
        if folder.path.is_dir():
            # not to the trash: what is there has its run deleted at the next start
            aside = folder.path.with_name(f".{folder.path.name}")
            await asyncio.to_thread(folder.path.rename, aside)
            await asyncio.to_thread(remove, aside)
            _log.info(
                "removed files that are kept elsewhere, or of a deleted run", run=request.run_id
            )
        return pb.DropRunFilesResponse()

    async def FetchCode(  # noqa: N802
        self, request: pb.FetchCodeRequest, context: Context
    ) -> AsyncIterator[bytes]:
        """Yield code that a client sent to this server."""
        self._check_server(context)
        store = self._home.uploads
        upload = await asyncio.to_thread(store.find, request.upload_id, None)
        manifest = await asyncio.to_thread(store.manifest_of, upload)
        owners = await asyncio.to_thread(store.owners_of, upload)
        first = pb.FetchCodeResponse(owners=owners, manifest=manifest_to_proto(manifest))
        yield first.SerializeToString()
        async for data in store.read(upload, manifest):
            yield pb.FetchCodeResponse(data=data).SerializeToString()

    def _folder(
        self,
        request: pb.ListRunFilesRequest | pb.FetchRunFilesRequest | pb.DropRunFilesRequest,
        context: Context,
    ) -> RunFolder:
        self._check_server(context)
        if not request.run_id or "/" in request.run_id or request.run_id.startswith("."):
            raise NotFound("run", request.run_id[:200])
        return self._home.run_folder(request.experiment, request.run_id)

    def _check_server(self, context: Context) -> None:
        if not self._tokens.is_one(authorization(context)):
            raise Unauthenticated("only servers of this store may ask for this")

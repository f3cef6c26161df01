"""Code that a client sent to another server of the store: brought here before a run needs it."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary

import grpc
import structlog

from lab_core.errors import Violation
from lab_rpc.v1 import peer_service_pb2 as pb
from lab_server.errors import InvalidRequest, StoreError, Unavailable
from lab_server.files.home import Home
from lab_server.files.upload_draft import UploadDraft
from lab_server.messages.uploads import manifest_from_proto
from lab_server.model.run import Run
from lab_server.model.upload import Upload
from lab_server.rpc.calls.status import Forwarded
from lab_server.rpc.other_servers import OtherServers, away
from lab_server.store.databases.members import Member

_log = structlog.get_logger("lab_server.peers")


class CodeElsewhere:
    """Asks other servers for code.

    Args:
        home: of this server.
        servers: the others.
    """

    def __init__(self, home: Home, servers: OtherServers) -> None:
        self._home = home
        self._home_id = home.server_id()
        self._servers = servers
        # guards each upload while it is brought
        self._bringing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def bring(self, run: Run) -> None:
        """Have the code here that a client sent for a run, if it is not, or is damaged.

        If no server has it, nothing is done: who runs it says so.

        Raises:
            StoreError: If it cannot be written.
            Unavailable: If servers are away that may have it, and none else has.
        """
        upload = run.request.upload
        if upload is None:
            return
        store = self._home.uploads
        folder = self._home.run_folder(run.experiment, run.id)
        lock = self._bringing.setdefault(upload.id, asyncio.Lock())
        async with lock:
            try:
                is_here = await asyncio.to_thread(store.is_whole, upload)
                if is_here or await self._bring(upload, run):
                    await asyncio.to_thread(folder.make)
                    await asyncio.to_thread(store.note_run, upload, run.id, folder.path)
            except OSError as error:
                reason = f"the code of run {run.id} cannot be copied: {error}"
                raise StoreError(reason) from error

    async def _bring(self, upload: Upload, run: Run) -> bool:
        members = [m for m in await self._servers.members() if m.home not in ("", self._home_id)]
        members.sort(key=lambda member: member.home != run.home)
        is_away = [member for member in members if not member.is_live]
        for member in members:
            if not member.is_live:
                continue
            try:
                await self._fetch(upload, run, member)
            except (InvalidRequest, Forwarded, Unavailable) as error:
                if not _lacks_it(error):
                    is_away.append(member)
                reason = str(error)
                _log.info("a server does not give code", server=member.address, reason=reason)
            else:
                _log.info("copied code from another server", run=run.id, server=member.address)
                return True
        if is_away:
            raise away(f"the files of the code of run {run.id}", is_away)
        return False

    async def _fetch(self, upload: Upload, run: Run, member: Member) -> None:
        """Copy code.

        Raises:
            Forwarded: If it gives none, NOT_FOUND where it does not have it.
            InvalidRequest: If it has it no more as it was sent.
            Unavailable: If it is away.
        """
        request = pb.FetchCodeRequest(upload_id=upload.id)
        async with self._servers.stub(member, f"the code of run {run.id}") as (stub, metadata):
            parts = stub.FetchCode(request, metadata=metadata)
            first = await anext(aiter(parts))
            manifest = manifest_from_proto(first.manifest)
            problems = manifest.problems()
            if manifest.upload_id != upload.id:
                problems.append(Violation("manifest", f"it is that of upload {manifest.upload_id}"))
            if problems:
                raise InvalidRequest(problems)
            with UploadDraft(self._home.uploads, manifest) as draft:
                async for part in parts:
                    await asyncio.to_thread(draft.write, part.data)
                await asyncio.to_thread(draft.finish, *first.owners)


def _lacks_it(error: Exception) -> bool:
    """Whether a server that answers so does not have code, or not as it was sent."""
    is_not_found = isinstance(error, Forwarded) and error.code is grpc.StatusCode.NOT_FOUND
    return is_not_found or isinstance(error, InvalidRequest)

"""The RPCs of AgentService: who an agent is, what it does, and what it ships."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import aclosing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar
from weakref import WeakValueDictionary

import structlog

import lab_server
from lab_core.errors import Violation
from lab_rpc.v1 import agent_service_pb2 as pb
from lab_server.errors import (
    InvalidRequest,
    InvalidState,
    NotFound,
    PermissionDenied,
    StoreError,
    Unavailable,
)
from lab_server.executors.remote.attempt import RemoteAttempt
from lab_server.executors.remote.mirror import MAX_APPEND_BYTES
from lab_server.executors.remote.registry import Agents
from lab_server.executors.upload_generations import NO_UPLOADS
from lab_server.files import artifacts
from lab_server.files.chunks import CHUNK_BYTES, Arrivals, FileChunks, FileList
from lab_server.files.pieces import read_pieces
from lab_server.files.run_folder import RunFolder
from lab_server.files.uploads import UploadStore
from lab_server.messages.agents import key_from_proto, request_from_proto, response_to_proto
from lab_server.messages.uploads import manifest_to_proto
from lab_server.model.agent import AgentCredential, FromAgent, Hello, ToAgent
from lab_server.model.upload import Upload
from lab_server.rpc.calls.auth import authorization
from lab_server.rpc.calls.interceptors import Context
from lab_server.security.agents import AgentCredentials

_log = structlog.get_logger("lab_server.agents")

Result = TypeVar("Result")


class AgentService:
    """Handlers named like their RPCs; an interceptor turns their errors into statuses.

    Args:
        agents: what is known of them.
        credentials: how they prove who they are.
        is_open: whether the server has all the runs that it is to have. One that does not know yet what an
            agent holds would have it let go of that.
        uploads: has the code that clients sent; None if the server takes none.
    """

    def __init__(
        self,
        agents: Agents,
        credentials: AgentCredentials,
        is_open: Callable[[], bool] = lambda: True,
        uploads: UploadStore | None = None,
    ) -> None:
        self._agents = agents
        self._uploads = uploads
        self._is_open = is_open
        self._credentials = credentials
        # guards the folder of each run in which files arrive
        self._arriving: WeakValueDictionary[Path, asyncio.Lock] = WeakValueDictionary()
        self._joining = asyncio.Lock()  # guards the names of agents between look and write
        self._is_draining = False

    def drain(self) -> None:
        """End every stream of an agent: they attach to the next server."""
        self._is_draining = True
        for agent in self._agents:
            if agent.end is not None:
                agent.end()

    # N802: the names are those of the RPCs
    async def Join(self, request: pb.JoinRequest, context: Context) -> pb.JoinResponse:  # noqa: N802
        """Take an agent in."""
        _check_version(request.version)
        self._check_open()
        async with self._joining:
            joined = await self._credentials.join(
                authorization(context),
                name=request.name,
                pool=request.pool,
                secret_sha256=request.secret_sha256,
                is_there=lambda name: self._agents.get(name) is not None,
            )
        _log.info("agent joined", agent=joined.name, pool=joined.pool)
        return pb.JoinResponse(credential_id=joined.id, pool=joined.pool)

    async def Attach(  # noqa: N802
        self, requests: AsyncIterator[pb.AttachRequest], context: Context
    ) -> AsyncIterator[bytes]:
        """Yield what an agent is to do, and take in what it does."""
        me = self._me(context)
        hello = await _hello(requests)
        try:
            _check_version(hello.version)
        except InvalidState as error:
            self._agents.refuse(me.name, str(error))
            raise
        if self._is_draining:
            raise Unavailable("the server is stopping")
        outgoing: asyncio.Queue[ToAgent | None] = asyncio.Queue()
        agent = self._agents.attach(me.name, me.pool, hello, outgoing.put_nowait)
        agent.end = lambda: outgoing.put_nowait(None)

        async def take_in() -> None:
            try:
                async for request in requests:
                    self._me(context)  # a revoked credential ends the stream
                    told: FromAgent | None = request_from_proto(request)
                    if told is not None:
                        self._agents.receive(agent, told)
            finally:
                outgoing.put_nowait(None)

        taking_in = asyncio.create_task(take_in())
        try:
            while (said := await outgoing.get()) is not None:
                yield response_to_proto(said).SerializeToString()
            if taking_in.done():
                taking_in.result()
        finally:
            taking_in.cancel()
            self._agents.detach(agent)
            # what it raised was told above; and a cancellation of this call is not swallowed here
            await asyncio.gather(taking_in, return_exceptions=True)

    async def AppendEvents(  # noqa: N802
        self, request: pb.AppendEventsRequest, context: Context
    ) -> pb.AppendEventsResponse:
        """Append bytes of a spool."""
        attempt = self._attempt(request.key, context)
        if len(request.data) > MAX_APPEND_BYTES:
            problem = f"it may have at most {MAX_APPEND_BYTES} bytes, got {len(request.data)}"
            raise InvalidRequest([Violation("data", problem)])
        with _disk_errors():
            return pb.AppendEventsResponse(offset=attempt.append(request.offset, request.data))

    async def FetchFiles(  # noqa: N802
        self, request: pb.FetchFilesRequest, context: Context
    ) -> AsyncIterator[bytes]:
        """Yield the run's files."""
        run_folder = self._attempt(request.key, context).folder
        async with self._arriving_in(run_folder):
            pass  # files of the attempt before this one may still be put together
        folder = run_folder.path
        there = await artifacts.list_artifacts(folder)
        paths, offset = [artifact.path for artifact in there], 0
        etag = await asyncio.to_thread(_etag, folder, paths)
        if request.etag == etag:
            paths, offset = [path for path in paths if path > request.after_path], request.offset
        yield pb.FetchFilesResponse(etag=etag).SerializeToString()
        async with aclosing(read_pieces(folder, paths, offset)) as pieces:
            async for piece in pieces:
                yield pb.FetchFilesResponse(
                    path=piece.path,
                    size_bytes=piece.size_bytes,
                    offset=piece.offset,
                    data=piece.data,
                    sha256=piece.sha256,
                ).SerializeToString()

    async def FetchUpload(  # noqa: N802
        self, request: pb.FetchUploadRequest, context: Context
    ) -> AsyncIterator[bytes]:
        """Yield the code that a client sent and that the run of an attempt uses."""
        key = self._attempt(request.key, context).key
        if self._uploads is None:
            raise PermissionDenied(NO_UPLOADS)
        upload = Upload(request.upload_id, "")
        if not await asyncio.to_thread(self._uploads.is_of, upload, key.run_id):
            raise NotFound("upload", request.upload_id[:100], f"run {key.run_id} does not use it")
        manifest = await asyncio.to_thread(self._uploads.manifest_of, upload)
        first = pb.FetchUploadResponse(manifest=manifest_to_proto(manifest))
        yield first.SerializeToString()
        async for data in self._uploads.read(upload, manifest):
            yield pb.FetchUploadResponse(data=data).SerializeToString()

    async def CompareFiles(  # noqa: N802
        self, requests: AsyncIterator[pb.CompareFilesRequest], context: Context
    ) -> pb.CompareFilesResponse:
        """Tell which chunks are to be uploaded."""
        key, files, _ = await self._told(requests, context)
        missing = await self._arrive(key, context, lambda at: at.missing(files))
        return pb.CompareFilesResponse(missing=missing)

    async def UploadChunks(  # noqa: N802
        self, requests: AsyncIterator[pb.UploadChunksRequest], context: Context
    ) -> pb.UploadChunksResponse:
        """Keep chunks."""
        key: pb.AttemptKey | None = None
        async for request in requests:
            key = key or request.key
            data = request.data
            if len(data) > CHUNK_BYTES:
                problem = f"it may have at most {CHUNK_BYTES} bytes, got {len(data)}"
                raise InvalidRequest([Violation("data", problem)])
            await self._arrive(key, context, partial(Arrivals.keep, data=data))
        return pb.UploadChunksResponse()

    async def CommitFiles(  # noqa: N802
        self, requests: AsyncIterator[pb.CommitFilesRequest], context: Context
    ) -> pb.CommitFilesResponse:
        """Put files together."""
        key, files, removed = await self._told(requests, context)
        await self._arrive(key, context, lambda at: at.commit(files, removed))
        return pb.CommitFilesResponse()

    async def _told(
        self,
        requests: AsyncIterator[pb.CompareFilesRequest] | AsyncIterator[pb.CommitFilesRequest],
        context: Context,
    ) -> tuple[pb.AttemptKey, list[FileChunks], list[str]]:
        """Return what an agent says about the files of one of its attempts, in as many requests as it takes."""
        key: pb.AttemptKey | None = None
        files = FileList()
        removed: list[str] = []
        async for request in requests:
            if key is None:
                key = request.key
                self._attempt(key, context)  # before there is much of it
            for file in request.files:
                files.add(file.path, file.size_bytes, file.chunks)
            if isinstance(request, pb.CommitFilesRequest):
                removed += request.removed
        return key or pb.AttemptKey(), files.whole(), removed

    def _me(self, context: Context) -> AgentCredential:
        self._check_open()
        return self._credentials.authenticate(authorization(context))

    def _check_open(self) -> None:
        if not self._is_open():
            raise Unavailable("this server is about to take over the runs; try again")

    def _attempt(self, key: pb.AttemptKey, context: Context) -> RemoteAttempt:
        return self._agents.attempt(self._me(context).name, key_from_proto(key))

    def _arriving_in(self, folder: RunFolder) -> asyncio.Lock:
        lock = self._arriving.get(folder.path)
        if lock is None:
            lock = self._arriving[folder.path] = asyncio.Lock()
        return lock

    async def _arrive(
        self, key: pb.AttemptKey, context: Context, work: Callable[[Arrivals], Result]
    ) -> Result:
        """Do something in the folder in which a run's files arrive; one thing at a time, to its end.

        A caller that goes away asks again, on this server: what it asked for first may still be at it.
        """
        agent = self._me(context).name
        folder = self._agents.attempt(agent, key_from_proto(key)).folder

        async def do() -> Result:
            async with self._arriving_in(folder):
                self._agents.attempt(agent, key_from_proto(key))  # it may be over by now
                with _disk_errors():
                    return await asyncio.to_thread(work, Arrivals(folder, key.attempt))

        doing = asyncio.create_task(do())
        doing.add_done_callback(_heard)
        return await asyncio.shield(doing)


def _heard(task: asyncio.Task[object]) -> None:
    """Take note of an error whose caller went away; else asyncio warns."""
    if not task.cancelled():
        task.exception()


@contextmanager
def _disk_errors() -> Iterator[None]:
    """A disk that refuses is the server's trouble, which passes: the agent tries again."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"the server cannot write the run's files: {error.strerror}") from error


def _etag(folder: Path, paths: Iterable[str]) -> str:
    """Return what is another for other files: the same ones, and none written to or replaced since."""
    listing = hashlib.sha256()
    for path in paths:
        with suppress(OSError):
            stat = (folder / path).lstat()
            listing.update(f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ino} {path}\0".encode())
    return listing.hexdigest()


def _check_version(version: str) -> None:
    if version != lab_server.__version__:
        raise InvalidState(
            f"the agent is of version {version[:50]!r}, and the server of {lab_server.__version__}; "
            "install the same on both"
        )


async def _hello(requests: AsyncIterator[pb.AttachRequest]) -> Hello:
    async for request in requests:
        told = request_from_proto(request)
        if isinstance(told, Hello):
            return told
        break
    raise InvalidRequest([Violation("kind", "an agent's first message must be a hello")])

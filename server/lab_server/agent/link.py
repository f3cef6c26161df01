"""The agent's connection to its server: calls wait for it, and are made again when it was cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from lab_core.errors import LabError, SettingsError
from lab_rpc.v1 import agent_service_pb2 as pb
from lab_rpc.v1 import agent_service_pb2_grpc
from lab_server.agent.home import Identity
from lab_server.files.chunks import FileChunks
from lab_server.messages.agents import key_to_proto
from lab_server.model.agent import AttemptKey
from lab_server.security.tokens import written

_CALL_S = 60.0
_PAGE_CHUNKS = 8192  # of 34 bytes each
_PAGE_PATHS = 64  # of up to 4 KiB
_PAUSE_S = 0.2
_MAX_PAUSE_S = 5.0
_OPTIONS = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.max_receive_message_length", -1),
)
# what the server answers when it is there and means it
_FINAL = frozenset(
    {
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
# what it answers to an attempt's events when the attempt is over, or another agent's
_OVER = frozenset({grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.PERMISSION_DENIED})
# what a call on a channel that is closed raises
_CLOSED = (grpc.aio.UsageError, asyncio.InvalidStateError)


class Refused(LabError):
    """The server will not do what the agent asked for, however often it asks.

    Attributes:
        code: the status.
    """

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(code, details)
        self.code, self.details = code, details

    def __str__(self) -> str:
        return self.details


class Cut(LabError):
    """The connection ended before an answer did; the same call may succeed later."""


@dataclass(frozen=True, slots=True)
class Tls:
    """How the server proves itself, and the agent to it where that is asked; paths of PEM files."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Return them for gRPC.

        Raises:
            SettingsError: If a file cannot be read.
        """
        try:
            ca, key, cert = (
                path.read_bytes() if path else None for path in (self.ca, self.key, self.cert)
            )
        except OSError as error:
            raise SettingsError(f"cannot read {error.filename}: {error.strerror}") from None
        return grpc.ssl_channel_credentials(ca, key, cert)


def open_channel(address: str, tls: Tls | None) -> grpc.aio.Channel:
    """Return a channel to a server; a socket file is as private as its folder, and needs no TLS."""
    if tls is None or address.startswith("unix:"):
        return grpc.aio.insecure_channel(address, options=_OPTIONS)
    return grpc.aio.secure_channel(address, tls.credentials(), options=_OPTIONS)


def refusal(error: grpc.aio.AioRpcError) -> Refused | None:
    """Return what a failed call means for good, None if it may succeed later."""
    return Refused(error.code(), error.details() or "") if error.code() in _FINAL else None


def is_asked_to_end() -> bool:
    """Whether a CancelledError asks this task to end; else it says that a gRPC call was cut.

    A call that is cancelled on this side, also because its channel was closed, raises the same error.
    """
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


class Link:
    """The agent's calls. While it is not attached they wait.

    The agent's loop owns it: `attached` and `detached` are called by the task that attaches.
    """

    def __init__(self, identity: Identity) -> None:
        self._metadata = (
            ("authorization", f"Bearer {written(identity.credential_id, identity.secret)}"),
        )
        self._stub: Any = None
        self._is_attached = asyncio.Event()

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Who the agent is, for each of its calls."""
        return self._metadata

    def attached(self, stub: Any) -> None:
        """Let calls go to a server."""
        self._stub = stub
        self._is_attached.set()

    def detached(self) -> None:
        """Let calls wait."""
        self._is_attached.clear()

    async def append(self, key: AttemptKey, offset: int, data: bytes) -> int:
        """Append bytes of an attempt's spool; return how many of it the server has.

        Raises:
            Refused: If the attempt is over, for the server.
        """
        request = pb.AppendEventsRequest(key=key_to_proto(key), offset=offset, data=data)
        return int((await self._call("AppendEvents", request)).offset)

    async def is_over(self, key: AttemptKey) -> bool:
        """Whether the server takes nothing more of an attempt, or never gave it to this agent."""
        try:
            await self.append(key, 0, b"")
        except Refused as error:
            return error.code in _OVER
        return False

    async def compare(self, key: AttemptKey, files: list[FileChunks]) -> list[bytes]:
        """Return the hashes of the chunks that the server lacks."""

        def requests() -> Iterator[pb.CompareFilesRequest]:
            for page in pages_of(files):
                yield pb.CompareFilesRequest(key=key_to_proto(key), files=page)

        return list((await self._call("CompareFiles", requests, timeout_s=None)).missing)

    async def upload(self, key: AttemptKey, chunks: list[bytes]) -> None:
        """Upload chunks."""

        async def requests() -> AsyncIterator[pb.UploadChunksRequest]:
            for data in chunks:
                yield pb.UploadChunksRequest(key=key_to_proto(key), data=data)

        await self._call("UploadChunks", requests, timeout_s=None)

    async def commit(self, key: AttemptKey, files: list[FileChunks], removed: list[str]) -> None:
        """Have files put together, and others removed."""

        def requests() -> Iterator[pb.CommitFilesRequest]:
            for page in pages_of(files):
                yield pb.CommitFilesRequest(key=key_to_proto(key), files=page)
            for begin in range(0, len(removed), _PAGE_PATHS):
                paths = removed[begin : begin + _PAGE_PATHS]
                yield pb.CommitFilesRequest(key=key_to_proto(key), removed=paths)

        await self._call("CommitFiles", requests, timeout_s=None)

    async def fetch(
        self, key: AttemptKey, etag: str = "", after_path: str = "", offset: int = 0
    ) -> AsyncIterator[pb.FetchFilesResponse]:
        """Yield the run's files, or the rest of them.

        Args:
            key: of the attempt.
            etag: of an earlier answer; if the files have another state now, all are sent.
            after_path: the last file that came whole.
            offset: where to begin in the one behind it.

        Raises:
            Cut: If the connection ended meanwhile: fetch them again.
            Refused: If the attempt is over, for the server.
        """
        request = pb.FetchFilesRequest(
            key=key_to_proto(key), etag=etag, after_path=after_path, offset=offset
        )
        async for answer in self._stream("FetchFiles", request):
            yield answer

    async def fetch_upload(
        self, key: AttemptKey, upload_id: str
    ) -> AsyncGenerator[pb.FetchUploadResponse]:
        """Yield the code that a client sent, its manifest first.

        Raises:
            Cut: If the connection ended meanwhile: fetch it again.
            Refused: If the attempt is over, for the server, or the server does not have the code.
        """
        request = pb.FetchUploadRequest(key=key_to_proto(key), upload_id=upload_id)
        async for answer in self._stream("FetchUpload", request):
            yield answer

    async def _stream(self, name: str, request: Any) -> AsyncIterator[Any]:
        await self._is_attached.wait()
        try:
            async for answer in getattr(self._stub, name)(request, metadata=self._metadata):
                yield answer
        except grpc.aio.AioRpcError as error:
            raise (refusal(error) or Cut(error.details() or "")) from None
        except _CLOSED:
            raise Cut("the channel was closed") from None
        except asyncio.CancelledError:
            if is_asked_to_end():
                raise
            raise Cut("the channel was closed") from None

    async def _call(self, name: str, request: Any, timeout_s: float | None = _CALL_S) -> Any:
        pause_s = _PAUSE_S
        while True:
            await self._is_attached.wait()
            message = request() if callable(request) else request
            try:
                return await getattr(self._stub, name)(
                    message, metadata=self._metadata, timeout=timeout_s
                )
            except grpc.aio.AioRpcError as error:
                refused = refusal(error)
                if refused is not None:
                    raise refused from None
            except _CLOSED:
                pass
            except asyncio.CancelledError:
                if is_asked_to_end():
                    raise
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _MAX_PAUSE_S)


def stub_of(channel: grpc.aio.Channel) -> Any:
    """Return the calls of AgentService on a channel."""
    return agent_service_pb2_grpc.AgentServiceStub(channel)


def pages_of(files: Iterable[FileChunks]) -> Iterator[list[pb.FileChunks]]:
    """Yield files for one request or more, each far smaller than a server's limit of one."""
    page: list[pb.FileChunks] = []
    size = 0
    for file in files:
        path = file.path
        for begin in range(0, len(file.chunks) or 1, _PAGE_CHUNKS):
            chunks = file.chunks[begin : begin + _PAGE_CHUNKS]
            if len(page) == _PAGE_PATHS or size + len(chunks) > _PAGE_CHUNKS:
                yield page
                page, size = [], 0
            page.append(pb.FileChunks(path=path, size_bytes=file.size_bytes, chunks=chunks))
            path = ""
            size += len(chunks)
    yield page

"""Errors as gRPC statuses: one table, and the details that go with each."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

import grpc
import grpc.aio
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from lab_core.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    LabError,
    RunNotFound,
    Violation,
)
from lab_server.descriptors import is_shortage
from lab_server.errors import (
    AlreadyExists,
    InvalidRequest,
    InvalidState,
    LaunchError,
    LimitReached,
    NotFound,
    PermissionDenied,
    QueueFull,
    StoreError,
    Unauthenticated,
    Unavailable,
)

DOMAIN = "lab-train"
# The HTTP/2 headers that carry a status may be 8 KiB; percent-encoding triples what is not ASCII.
_MAX_MESSAGE_BYTES = 1000
_MAX_DETAILS_BYTES = 4000

_CODES: tuple[tuple[type[LabError], grpc.StatusCode, str], ...] = (
    (ConfigError, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_CONFIG"),
    (InvalidRequest, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
    (NotFound, grpc.StatusCode.NOT_FOUND, "NOT_FOUND"),
    (RunNotFound, grpc.StatusCode.NOT_FOUND, "NOT_FOUND"),
    (InvalidState, grpc.StatusCode.FAILED_PRECONDITION, "INVALID_STATE"),
    (CheckpointError, grpc.StatusCode.FAILED_PRECONDITION, "BAD_CHECKPOINT"),
    (DataError, grpc.StatusCode.FAILED_PRECONDITION, "BAD_DATA"),
    (AlreadyExists, grpc.StatusCode.ALREADY_EXISTS, "ALREADY_EXISTS"),
    (QueueFull, grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL"),
    (LimitReached, grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_REACHED"),
    (Unauthenticated, grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED"),
    (PermissionDenied, grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED"),
    (Unavailable, grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE"),
    (StoreError, grpc.StatusCode.UNAVAILABLE, "STORE_ERROR"),
    (LaunchError, grpc.StatusCode.UNAVAILABLE, "LAUNCH_ERROR"),
)


class Forwarded(LabError):
    """What another server answered to a call that was forwarded to it."""

    def __init__(self, code: grpc.StatusCode, reason: str, message: str) -> None:
        super().__init__(code, reason, message)
        self.code, self.reason, self.message = code, reason, message

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, slots=True)
class Status:
    """The response to a failed call.

    Attributes:
        reason: tells apart errors of the same code, such as "QUEUE_FULL".
        details: an encoded google.rpc.Status, for the trailer grpc-status-details-bin.
    """

    code: grpc.StatusCode
    reason: str
    message: str
    details: bytes


def status_of(error: Exception) -> Status | None:
    """Return an error's status, None if no caller should be able to cause it."""
    if is_shortage(error):
        error = Unavailable("the server has no file descriptors left; try again later")
    if isinstance(error, Forwarded):
        return Status(error.code, error.reason, error.message, b"")
    for kind, code, reason in _CODES:
        if isinstance(error, kind):
            message = shorten(str(error), _MAX_MESSAGE_BYTES)
            return Status(code, reason, message, _encode(code, message, _details(error, reason)))
    return None


def error_of(error: grpc.aio.AioRpcError) -> LabError:
    """Return the error that another server answered with, as it would be raised here."""
    status, info, bad = status_pb2.Status(), error_details_pb2.ErrorInfo(), None
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status.ParseFromString(value)
    for detail in status.details:
        if detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest.FromString(detail.value)
        else:
            detail.Unpack(info)
    if bad is not None:
        found = [Violation(v.field, v.description) for v in bad.field_violations]
        kind = ConfigError if info.reason == "INVALID_CONFIG" else InvalidRequest
        return kind(found)
    code = error.code()
    return Forwarded(code, info.reason or code.name, error.details() or "")


def is_away(error: grpc.aio.AioRpcError) -> bool:
    """Return whether no server answered: one that refuses a call says why in the trailing metadata."""
    return error.code() is grpc.StatusCode.UNAVAILABLE and not error.trailing_metadata()


def shorten(text: str, max_bytes: int) -> str:
    """Return the text, cut where its percent-encoding would be longer than max_bytes."""
    if len(text) * 3 <= max_bytes or len(quote(text[:max_bytes], safe=" ")) <= max_bytes >= len(
        text
    ):
        return text
    size = 0
    for index, char in enumerate(text):
        size += len(quote(char, safe=" "))
        if size > max_bytes - 3:
            return text[:index] + "..."
    return text


def _details(error: LabError, reason: str) -> list[Message]:
    info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN)
    details: list[Message] = [info]
    if isinstance(error, QueueFull):
        info.metadata["limit"] = str(error.limit)
    if isinstance(error, ConfigError | InvalidRequest):
        details.append(_bad_request(error.violations))
    if isinstance(error, NotFound):
        details.append(
            error_details_pb2.ResourceInfo(
                resource_type=error.resource, resource_name=shorten(error.name, 300)
            )
        )
    return details


def _bad_request(violations: tuple[Violation, ...]) -> error_details_pb2.BadRequest:
    bad = error_details_pb2.BadRequest()
    size = 0
    for index, violation in enumerate(violations):
        field, description = shorten(violation.key, 200), shorten(violation.message, 1000)
        size += len(field.encode()) + len(description.encode()) + 8
        if size > _MAX_DETAILS_BYTES:
            rest = len(violations) - index
            bad.field_violations.add(field="", description=f"and {rest} more violations")
            break
        bad.field_violations.add(field=field, description=description)
    return bad


def _encode(code: grpc.StatusCode, message: str, details: list[Message]) -> bytes:
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in details:
        status.details.add().Pack(detail)
    encoded: bytes = status.SerializeToString()
    return encoded

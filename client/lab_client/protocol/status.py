"""The one table from a gRPC status to an error of this package.

What a caller sees depends on the code, on the details that the server attaches (`BadRequest`,
`ResourceInfo`), and for connection errors on the address.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from lab_client import errors
from lab_client.errors import Violation

_CONFIG_RPCS = frozenset({"PlanRun", "CreateRun"})
_DETAILS_KEY = "grpc-status-details-bin"

_NOT_FOUND: dict[str, type[errors.NotFound]] = {
    "run": errors.RunNotFound,
    "search": errors.SearchNotFound,
    "experiment": errors.ExperimentNotFound,
    "artifact": errors.ArtifactNotFound,
    "checkpoint": errors.CheckpointNotFound,
    "upload": errors.UploadNotFound,
}
_SIMPLE: dict[grpc.StatusCode, type[errors.LabError]] = {
    grpc.StatusCode.FAILED_PRECONDITION: errors.InvalidState,
    grpc.StatusCode.ABORTED: errors.InvalidState,
    grpc.StatusCode.ALREADY_EXISTS: errors.AlreadyExists,
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDenied,
}
_EXHAUSTED: dict[str, type[errors.ResourceExhausted]] = {
    "QUEUE_FULL": errors.QueueFull,
    "LIMIT_REACHED": errors.LimitReached,
}
_TRANSPORT = frozenset(
    # What a proxy, a restarting server or a cut connection looks like in the middle of a stream.
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }
)


def is_transport(error: grpc.RpcError) -> bool:
    """Whether a stream that ended so may be read on by asking again."""
    code: grpc.StatusCode = error.code()
    if code in _TRANSPORT:
        return True
    details = (error.details() or "").lower()
    return code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN) and (
        "rst_stream" in details or "stream removed" in details or "goaway" in details
    )


def to_error(  # noqa: C901  # a table, with a sentence a row
    error: grpc.RpcError, rpc: str, address: str
) -> errors.LabError:
    """Return the error of this package that says what the status says."""
    code: grpc.StatusCode = error.code()
    message = error.details() or code.name.lower().replace("_", " ")
    if code is grpc.StatusCode.UNAVAILABLE:
        if _details(error):  # a server that is there says so itself: it drains, say
            return errors.Unavailable(f"{address}: {message}")
        return _unavailable(message, address)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return errors.DeadlineExceeded(
            f"{address} did not answer {rpc} in time; give more with timeout_s, "
            "or check the connection with: lab doctor"
        )
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return errors.IncompatibleServer(
            f"what answers at {address} does not know {rpc}: it is not a lab-server, "
            f"or an older one ({message})"
        )
    if code is grpc.StatusCode.UNAUTHENTICATED:
        if "LAB_TOKEN" not in message:  # the server says what to do itself, or it is a proxy
            message = f"{message}; set LAB_TOKEN to a token that the server accepts"
        return errors.Unauthenticated(message)
    if code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE):
        reason = _reason(error)
        is_config = reason == "INVALID_CONFIG" or (not reason and rpc in _CONFIG_RPCS)
        kind = errors.ConfigError if is_config else errors.InvalidRequest
        return kind(_violations(error) or [Violation("", message)])
    if code is grpc.StatusCode.NOT_FOUND:
        resource_type, resource_name = _resource(error)
        return _NOT_FOUND.get(resource_type, errors.NotFound)(message, resource_name)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return _exhausted(message, _reason(error))
    if code in _SIMPLE:
        return _SIMPLE[code](message)
    return errors.ServerError(message, code.name)


def _exhausted(message: str, reason: str) -> errors.ResourceExhausted:
    if not reason and "larger than max" in message:  # gRPC's own words, on either side
        return errors.MessageTooLarge(
            f"{message}; send or ask for less at a time, such as fewer metrics, or points (max_points)"
        )
    return _EXHAUSTED.get(reason, errors.ResourceExhausted)(message)


def _unavailable(message: str, address: str) -> errors.LabError:
    lowered = message.lower()
    if any(sign in lowered for sign in ("http1.x", "http/1.x", "expected settings frame")):
        return errors.IncompatibleServer(
            f"what answers at {address} does not speak gRPC; is it the server's metrics port, "
            "or does it require TLS? Check with: lab doctor"
        )
    if any(sign in lowered for sign in ("ssl", "certificate", "handshake", "tls")):
        return errors.Unavailable(
            f"no secure connection to {address}: {message}; check it with: lab doctor"
        )
    if any(sign in lowered for sign in ("dns resolution failed", "errors resolving")):
        return errors.Unavailable(
            f"{address.rpartition(':')[0]!r} cannot be resolved to an address; say where the "
            "server is with LAB_SERVER, as HOST:PORT"
        )
    if any(sign in lowered for sign in ("socket closed", "connection reset")):
        return errors.Unavailable(
            f"what answers at {address} ended the connection ({_short(message)}); does it require TLS? "
            "Check with: lab doctor"
        )
    return errors.Unavailable(
        f"no lab-server answers at {address} ({_short(message)}); start one with: lab-server serve, "
        "or say where it is with LAB_SERVER"
    )


def _short(message: str) -> str:
    """Return the cause at the end of gRPC's sentence, which tells every address before it."""
    if "last error" in message:
        message = message.rpartition(": ")[2] or message
    return message


def _details(error: grpc.RpcError) -> list[Any]:
    # The metadata is read here and not by grpc_status, which raises when code and details differ.
    from google.rpc import status_pb2

    trailing: Any = error.trailing_metadata()
    for key, raw in trailing or ():
        if key == _DETAILS_KEY:
            try:
                return list(status_pb2.Status.FromString(raw).details)
            except DecodeError:
                return []
    return []


def _unpacked(error: grpc.RpcError, kind: type[Message]) -> Iterator[Any]:
    for detail in _details(error):
        message = kind()
        if detail.Unpack(message):
            yield message


def _reason(error: grpc.RpcError) -> str:
    from google.rpc import error_details_pb2

    return next((info.reason for info in _unpacked(error, error_details_pb2.ErrorInfo)), "")


def _violations(error: grpc.RpcError) -> list[Violation]:
    from google.rpc import error_details_pb2

    return [
        Violation(violation.field, violation.description)
        for bad_request in _unpacked(error, error_details_pb2.BadRequest)
        for violation in bad_request.field_violations
    ]


def _resource(error: grpc.RpcError) -> tuple[str, str]:
    from google.rpc import error_details_pb2

    for resource in _unpacked(error, error_details_pb2.ResourceInfo):
        return resource.resource_type, resource.resource_name
    return "", ""

"""Errors as answers of the HTTP API: the same codes, reasons and sentences as gRPC's statuses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import grpc
import structlog
from aiohttp import web

from lab_core.errors import ConfigError, LabError
from lab_server.errors import InvalidRequest
from lab_server.rpc.calls.status import status_of

_log = structlog.get_logger("lab_server.api")

_HTTP_STATUSES: Final = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.FAILED_PRECONDITION: 409,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNAVAILABLE: 503,
}
_MAX_VIOLATIONS: Final = 200


class Refused(LabError):
    """A request that HTTP itself refuses: another host, another site, a body of another kind."""

    def __init__(self, http_status: int, reason: str, sentence: str) -> None:
        super().__init__(http_status, reason, sentence)
        self.http_status, self.reason, self.sentence = http_status, reason, sentence

    def __str__(self) -> str:
        return self.sentence


def http_status(error: Exception) -> int:
    """Return the HTTP status of an error; 500 for one that no caller should be able to cause."""
    if isinstance(error, Refused):
        return error.http_status
    status = status_of(error)
    return _HTTP_STATUSES[status.code] if status is not None else 500


def error_json(error: Exception) -> dict[str, Any]:
    """Return an error as the API's answer; one that no caller should be able to cause is logged."""
    if isinstance(error, Refused):
        return _body("REFUSED", error.reason, str(error))
    status = status_of(error)
    if status is None:
        _log.exception("unexpected error", exc_info=error)
        return _body("INTERNAL", "INTERNAL", "internal error; see the server's log")
    violations = error.violations if isinstance(error, ConfigError | InvalidRequest) else ()
    return _body(
        status.code.name,
        status.reason,
        status.message,
        [{"field": v.key, "message": v.message} for v in violations[:_MAX_VIOLATIONS]],
    )


def error_response(error: Exception) -> web.Response:
    """Return the answer to a call that failed."""
    status = http_status(error)
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    return json_response(error_json(error), status=status, headers=headers)


def json_response(
    data: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return an answer in JSON, which no cache keeps."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return web.Response(
        text=text,
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def _body(
    code: str, reason: str, message: str, violations: list[dict[str, str]] | None = None
) -> dict[str, Any]:
    return {
        "error": {
            "code": code,
            "reason": reason,
            "message": message,
            "violations": violations or [],
        }
    }

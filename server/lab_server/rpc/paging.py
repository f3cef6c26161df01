"""ListRuns: turns a request into a query, and a store's position into a page token."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from pathlib import Path
from typing import TypeVar

from lab_core.errors import Violation
from lab_rpc.v1 import search_service_pb2, training_service_pb2
from lab_server.errors import InvalidRequest
from lab_server.files.secret import server_secret
from lab_server.messages.runs import STATES_FROM_PROTO
from lab_server.rpc.requests import (
    MAX_KEY_CHARS,
    MAX_NAME_CHARS,
    MAX_NUM_TAGS,
    MAX_TAG_CHARS,
    Checks,
)
from lab_server.store import RunQuery

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000
_COLUMNS = ("create_time", "name", "state", "step")
_MAC_BYTES = 12


Paged = TypeVar(
    "Paged", training_service_pb2.ListRunsRequest, search_service_pb2.ListSearchesRequest
)


class Paging:
    """Makes queries and page tokens; a token is the store's position with a MAC, so it cannot be forged."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    @classmethod
    def of_home(cls, home: Path) -> Paging:
        """Return the paging of a server: tokens stay valid after a restart."""
        return cls(server_secret(home))

    def query(self, message: training_service_pb2.ListRunsRequest) -> RunQuery:
        """Return a request's query.

        Raises:
            InvalidRequest: If its order, a filter or its token is invalid.
        """
        checks = Checks()
        checks.text("experiment", message.experiment, MAX_NAME_CHARS)
        checks.text("name_contains", message.name_contains, MAX_NAME_CHARS)
        checks.between("tags", len(message.tags), 0, MAX_NUM_TAGS)
        for tag in message.tags[:MAX_NUM_TAGS]:
            checks.text("tags", tag, MAX_TAG_CHARS)
        for state in message.states[:10]:
            if state not in STATES_FROM_PROTO:
                checks.add("states", f"{state} is not a state of a run")
        order_by, is_descending = _order(checks, message.order_by)
        checks.raise_if_any()
        return RunQuery(
            experiment=message.experiment,
            states=frozenset(
                STATES_FROM_PROTO[s] for s in message.states if s in STATES_FROM_PROTO
            ),
            tags=frozenset(message.tags),
            name_contains=message.name_contains,
            order_by=order_by,
            is_descending=is_descending,
            limit=min(message.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE),
            after=self._open(message) if message.page_token else "",
        )

    def position(self, message: Paged) -> str:
        """Return the position in a request's token.

        Raises:
            InvalidRequest: If it is not a token of a response to the same request.
        """
        return self._open(message)

    def token(self, message: Paged, next_after: str) -> str:
        """Return the token of the request's next page, "" after the last one."""
        if not next_after:
            return ""
        data = next_after.encode()
        return base64.urlsafe_b64encode(self._seal(message, data) + data).decode()

    def _open(self, message: Paged) -> str:
        try:
            sealed = base64.urlsafe_b64decode(message.page_token.encode("ascii"))
        except (binascii.Error, UnicodeEncodeError, ValueError):
            sealed = b""
        seal, data = sealed[:_MAC_BYTES], sealed[_MAC_BYTES:]
        if not data or not hmac.compare_digest(seal, self._seal(message, data)):
            sentence = "page_token must be the next_page_token of a response to the same request"
            raise InvalidRequest([Violation("page_token", sentence)])
        return data.decode()

    def _seal(self, message: Paged, data: bytes) -> bytes:
        bare = type(message)()
        bare.CopyFrom(message)
        bare.page_token, bare.page_size = "", 0
        signed = bare.SerializeToString(deterministic=True) + b"\0" + data
        return hmac.digest(self._secret, signed, hashlib.sha256)[:_MAC_BYTES]


def _order(checks: Checks, order_by: str) -> tuple[str, bool]:
    if not order_by:
        return "create_time", True
    column, _, direction = order_by.strip().partition(" ")
    is_metric = column.startswith("metrics.") and len(column) > len("metrics.")
    if direction.strip() not in ("", "asc", "desc") or (column not in _COLUMNS and not is_metric):
        checks.add(
            "order_by",
            f"order_by must be one of {', '.join(_COLUMNS)} or metrics.NAME, followed by ' desc' for "
            f"descending order, got {order_by[:100]!r}",
        )
    checks.text("order_by", order_by, MAX_KEY_CHARS)
    return column, direction.strip() == "desc"

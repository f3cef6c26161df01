"""ListRuns: turns a request into a query, and a store's position into a page token."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from typing import TypeVar

from lab_core.errors import Violation
from lab_rpc.v1 import search_service_pb2, training_service_pb2
from lab_server.errors import InvalidRequest
from lab_server.messages.runs import STATES_FROM_PROTO
from lab_server.rpc.requests import (
    MAX_KEY_CHARS,
    MAX_NAME_CHARS,
    MAX_NUM_TAGS,
    MAX_TAG_CHARS,
    Checks,
)
from lab_server.store import RunQuery
from lab_server.where import CREATE_TIME, Kind, Name, parse, parse_name
from lab_server.where.parser import MAX_CHARS

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000
MAX_METRICS = 100
_MAC_BYTES = 12


Paged = TypeVar(
    "Paged", training_service_pb2.ListRunsRequest, search_service_pb2.ListSearchesRequest
)


class Paging:
    """Makes queries and page tokens; a token is the store's position with a MAC, so it cannot be forged."""

    def __init__(self, secret: bytes) -> None:
        self._key = hmac.digest(secret, b"lab-train page token", hashlib.sha256)

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
        checks.between("metrics", len(message.metrics), 0, MAX_METRICS)
        for name in message.metrics[:MAX_METRICS]:
            checks.text("metrics", name, MAX_KEY_CHARS)
        order_by, is_descending = _order(checks, message.order_by)
        checks.text("where", message.where, MAX_CHARS, lines=True)
        checks.raise_if_any()
        return RunQuery(
            experiment=message.experiment,
            states=frozenset(
                STATES_FROM_PROTO[s] for s in message.states if s in STATES_FROM_PROTO
            ),
            tags=frozenset(message.tags),
            name_contains=message.name_contains,
            where=parse(message.where) if message.where.strip() else None,
            order_by=order_by,
            is_descending=is_descending,
            limit=min(message.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE),
            after=self._open(message) if message.page_token else "",
            now_ns=time.time_ns(),
            is_counted=not message.page_token,
            metrics=frozenset(message.metrics) or None,
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
        if isinstance(bare, training_service_pb2.ListRunsRequest):
            bare.ClearField("metrics")  # they do not say which runs are meant
        kind, request = (
            bare.DESCRIPTOR.full_name.encode(),
            bare.SerializeToString(deterministic=True),
        )
        return hmac.digest(self._key, b"\0".join((kind, request, data)), hashlib.sha256)[
            :_MAC_BYTES
        ]


def _order(checks: Checks, order_by: str) -> tuple[Name, bool]:
    checks.text("order_by", order_by, MAX_KEY_CHARS)
    text = order_by.strip()
    if not text:
        return CREATE_TIME, True
    is_descending = text.endswith(" desc")
    name = parse_name(text.removesuffix(" desc").removesuffix(" asc"))
    if name is None or name.kind is Kind.TAGS:
        checks.add(
            "order_by",
            "order_by must be a field of runs, a config or a metric, such as create_time, learning_rate or "
            f"max(accuracy), followed by ' desc' for the largest first, got {order_by[:100]!r}",
        )
    return name or CREATE_TIME, is_descending

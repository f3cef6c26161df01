"""QueryMedia's request, checked: which items of a run's log it asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from lab_core.errors import Violation
from lab_rpc.metric_names import matcher
from lab_rpc.v1 import event_pb2, training_service_pb2
from lab_server.errors import InvalidRequest
from lab_server.rpc import requests

pb = training_service_pb2

_CONTENTS: Final[Mapping[int, str]] = {
    pb.MEDIA_KIND_IMAGE: "image",
    pb.MEDIA_KIND_TEXT: "text",
    pb.MEDIA_KIND_HISTOGRAM: "histogram",
    pb.MEDIA_KIND_INDEXED: "indexed",
}
_MAX_SEQ: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class MediaQuery:
    """What is asked for.

    Attributes:
        content: the set field of MediaItem.content; "" for all.
        after_seq: where the last answer stopped in the log.
    """

    content: str
    has_name: Callable[[str], bool]
    min_step: int
    max_step: int
    after_seq: int

    @classmethod
    def of(cls, request: pb.QueryMediaRequest) -> MediaQuery:
        """Check a request.

        Raises:
            InvalidRequest: If its kind, its names or its token is none.
        """
        requests.check_patterns(request.names)
        if request.kind and request.kind not in _CONTENTS:
            raise InvalidRequest([Violation("kind", f"there is no kind {request.kind}")])
        token = request.page_token
        is_seq = token.isascii() and token.isdecimal() and len(token) < 20
        if token and not (is_seq and int(token) <= _MAX_SEQ):
            raise InvalidRequest([Violation("page_token", "page_token is none that an answer had")])
        return cls(
            content=_CONTENTS.get(request.kind, ""),
            has_name=matcher(request.names),
            min_step=request.min_step if request.HasField("min_step") else -(2**63),
            max_step=request.max_step if request.HasField("max_step") else 2**63,
            after_seq=int(token or 0),
        )

    def matches(self, item: event_pb2.MediaItem) -> bool:
        """Whether an item is asked for."""
        return (
            self.min_step <= item.step <= self.max_step
            and (not self.content or item.WhichOneof("content") == self.content)
            and self.has_name(item.name)
        )

"""QueryMedia: what to ask for, page by page, and what its items are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from lab_client import media
from lab_client.protocol.media_convert import media_items
from lab_client.protocol.operations import Operation
from lab_client.protocol.streams import as_list
from lab_rpc.v1 import training_service_pb2 as pb

_KINDS: Final[dict[type, pb.MediaKind.ValueType]] = {
    media.TrackedImage: pb.MEDIA_KIND_IMAGE,
    media.TrackedText: pb.MEDIA_KIND_TEXT,
    media.TrackedHistogram: pb.MEDIA_KIND_HISTOGRAM,
    media.IndexedValues: pb.MEDIA_KIND_INDEXED,
}


M = TypeVar("M", bound=media.MediaItem)


@dataclass(frozen=True, slots=True)
class MediaPage(Generic[M]):
    """An answer of the server, with what to ask for next; "" at the end."""

    items: tuple[M, ...]
    next_token: str


@dataclass(frozen=True, slots=True)
class MediaQuery(Generic[M]):
    """What of a run to get, one page after the other.

    Attributes:
        kind: the class of the items.
        names: globs; None wants all.
    """

    run_id: str
    kind: type[M]
    names: Iterable[str] | None = None
    min_step: int | None = None
    max_step: int | None = None

    def page(self, token: str) -> Operation[MediaPage[M]]:
        """Ask for the page of a token; "" is the first one's."""
        request = pb.QueryMediaRequest(
            run_id=self.run_id,
            kind=_KINDS[self.kind],
            names=as_list(self.names),
            min_step=self.min_step,
            max_step=self.max_step,
            page_token=token,
        )
        return Operation("QueryMedia", request, self._read)

    def _read(self, response: pb.QueryMediaResponse) -> MediaPage[M]:
        found = tuple(i for i in media_items(response.items) if isinstance(i, self.kind))
        return MediaPage(found, response.next_page_token)

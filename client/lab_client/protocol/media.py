"""QueryMedia: what to ask for, page by page, and what its items are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol, TypeVar

from lab_client import media
from lab_client.protocol.calls import Operation
from lab_client.protocol.media_convert import media_items
from lab_client.protocol.pages import Page, Pages
from lab_client.protocol.streams import as_list
from lab_rpc.v1 import training_service_pb2 as pb

_KINDS: Final[dict[type, pb.MediaKind.ValueType]] = {
    media.TrackedImage: pb.MEDIA_KIND_IMAGE,
    media.TrackedText: pb.MEDIA_KIND_TEXT,
    media.TrackedHistogram: pb.MEDIA_KIND_HISTOGRAM,
    media.IndexedValues: pb.MEDIA_KIND_INDEXED,
}

M = TypeVar("M", bound=media.MediaItem)


class AskForMedia(Protocol[M]):
    """Asks for what a run tracked of one kind."""

    def __call__(
        self,
        run_id: str,
        names: Iterable[str] | None = None,
        *,
        min_step: int | None = None,
        max_step: int | None = None,
    ) -> Pages[M]:
        """Ask for what a run tracked under names, globs or None for all, in a range of steps."""


def of_kind(kind: type[M]) -> AskForMedia[M]:
    """Return what asks for the items of a class."""

    def ask_for(
        run_id: str,
        names: Iterable[str] | None = None,
        *,
        min_step: int | None = None,
        max_step: int | None = None,
    ) -> Pages[M]:
        wanted = as_list(names)

        def ask(token: str, _size: int) -> Operation[Page[M]]:
            return Operation(
                "QueryMedia",
                lambda: pb.QueryMediaRequest(
                    run_id=run_id,
                    kind=_KINDS[kind],
                    names=wanted,
                    min_step=min_step,
                    max_step=max_step,
                    page_token=token,
                ),
                parse,
            )

        return Pages(ask)

    def parse(response: pb.QueryMediaResponse) -> Page[M]:
        found = tuple(item for item in media_items(response.items) if isinstance(item, kind))
        return Page(found, response.next_page_token)

    return ask_for

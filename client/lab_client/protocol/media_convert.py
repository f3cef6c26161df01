"""Images, texts, histograms and indexed values, from the wire."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lab_client import media
from lab_rpc.v1 import event_pb2


def media_items(messages: Iterable[event_pb2.MediaItem]) -> Iterator[media.MediaItem]:
    """Yield items; those of a kind of a newer server are left out."""
    for message in messages:
        item = _item(message)
        if item is not None:
            yield item


def _item(message: event_pb2.MediaItem) -> media.MediaItem | None:
    name, step, is_cut = message.name, message.step, message.is_cut
    match message.WhichOneof("content"):
        case "image":
            image = message.image
            return media.TrackedImage(
                name, step, image.png, image.width, image.height, image.index, is_cut
            )
        case "text":
            return media.TrackedText(name, step, message.text, is_cut)
        case "histogram":
            found = message.histogram
            return media.TrackedHistogram(
                name,
                step,
                edges=found.edges[:],
                counts=found.counts[:],
                num_values=found.num_values,
                sum=found.sum,
                sum_squares=found.sum_squares,
                num_nan=found.num_nan,
                num_infinite=found.num_infinite,
                is_cut=is_cut,
            )
        case "indexed":
            values = message.indexed
            return media.IndexedValues(name, step, values.indices[:], values.values[:], is_cut)
        case _:
            return None

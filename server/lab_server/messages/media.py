"""What was tracked beside metrics, as events: within the size that an event may have."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from lab_core.writers.base import HistogramPoint, ImagePoint, IndexedPoint, TextPoint
from lab_rpc.v1 import event_pb2
from lab_server.messages import wire
from lab_server.messages.events import EncodedEvent, encode_media

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MAX_ITEM_BYTES: Final = 256 << 10
"""About the largest item; a larger one is cut: a stalled reader costs an event."""

MAX_TEXT_CHARS: Final = 64 << 10
MAX_INDICES: Final = 16 << 10
MAX_IMAGES: Final = 64
"""Pictures of one name at one step."""

_EVENT_BYTES: Final = 48 << 10
_MIN_SIDE: Final = 8

Point = ImagePoint | TextPoint | HistogramPoint | IndexedPoint


def items_of(point: Point) -> list[event_pb2.MediaItem]:
    """Return a point as items, more than one for a batch of images; what is too large is cut."""
    match point:
        case ImagePoint():
            return list(_images(point))
        case TextPoint():
            text = wire.text_of(point.text, MAX_TEXT_CHARS)
            is_cut = len(point.text) > MAX_TEXT_CHARS
            return [event_pb2.MediaItem(name=point.name, step=point.step, text=text, is_cut=is_cut)]
        case HistogramPoint():
            return [_histogram(point)]
        case IndexedPoint():
            return [_indexed(point)]


def encode_items(
    attempt: int, time_ns: int, items: Sequence[event_pb2.MediaItem]
) -> list[EncodedEvent]:
    """Encode items in as many events as their size needs."""
    return [encode_media(attempt, time_ns, group) for group in _groups(items)]


def _groups(items: Sequence[event_pb2.MediaItem]) -> Iterator[list[event_pb2.MediaItem]]:
    group: list[event_pb2.MediaItem] = []
    size = 0
    for item in items:
        item_bytes = item.ByteSize()
        if group and size + item_bytes > _EVENT_BYTES:
            yield group
            group, size = [], 0
        group.append(item)
        size += item_bytes
    if group:
        yield group


def _images(point: ImagePoint) -> Iterator[event_pb2.MediaItem]:
    for index, pixels_HWC in enumerate(point.images_HWC[:MAX_IMAGES]):  # noqa: N806
        png, (height, width), is_cut = _png(pixels_HWC)
        image = event_pb2.Image(png=png, width=width, height=height, index=index)
        yield event_pb2.MediaItem(
            name=wire.text_of(point.name),
            step=point.step,
            image=image,
            is_cut=is_cut or len(point.images_HWC) > MAX_IMAGES,
        )


def _png(pixels_HWC: npt.NDArray[np.uint8]) -> tuple[bytes, tuple[int, int], bool]:  # noqa: N803
    """Return a picture as PNG with its size, and whether rows and columns were left out to have it fit."""
    from PIL import Image

    stride = 1
    while True:
        part = pixels_HWC[::stride, ::stride]
        file = io.BytesIO()
        Image.fromarray(part[:, :, 0] if part.shape[2] == 1 else part).save(file, format="PNG")
        size = part.shape[0], part.shape[1]
        if file.tell() <= MAX_ITEM_BYTES or min(size) <= _MIN_SIDE:
            return file.getvalue(), size, stride > 1
        stride *= 2


def _histogram(point: HistogramPoint) -> event_pb2.MediaItem:
    histogram = event_pb2.Histogram(
        edges=point.edges,
        counts=point.counts,
        num_values=point.num,
        sum=point.total,
        sum_squares=point.sum_squares,
        num_nan=point.num_nan,
        num_infinite=point.num_inf,
    )
    return event_pb2.MediaItem(name=wire.text_of(point.name), step=point.step, histogram=histogram)


def _indexed(point: IndexedPoint) -> event_pb2.MediaItem:
    values = event_pb2.IndexedValues(
        indices=point.indices[:MAX_INDICES], values=point.values[:MAX_INDICES]
    )
    return event_pb2.MediaItem(
        name=wire.text_of(point.name),
        step=point.step,
        indexed=values,
        is_cut=len(point.indices) > MAX_INDICES,
    )

"""What a run tracks beside metrics goes to its log within bounds, and what is left out is said once."""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Iterator
from typing import Any

import aiohttp
import grpc
import numpy as np
import pytest
from PIL import Image

from lab_core.logger.sinks import Sink, set_sink
from lab_core.writers.base import Batch, HistogramPoint, ImagePoint, IndexedPoint, TextPoint
from lab_rpc.v1 import event_pb2, training_service_pb2
from lab_server.messages import events
from lab_server.messages.events import EncodedEvent
from lab_server.messages.media import MAX_INDICES, MAX_ITEM_BYTES, MAX_TEXT_CHARS
from lab_server.model.media import MediaLimits
from lab_server.model.run import RunState
from lab_server.trainer.media import MediaFilter
from tests.server.conftest import Surface

pb = training_service_pb2


@pytest.fixture
def printed() -> Iterator[io.StringIO]:
    """What lab_core's logger prints."""
    file = io.StringIO()
    set_sink(Sink(file))
    yield file
    set_sink(None)


def text(step: int, name: str = "note", value: str = "hello") -> TextPoint:
    return TextPoint(name, step, 0.0, value)


def picture(step: int, *shape: int, num: int = 1) -> ImagePoint:
    random = np.random.default_rng(step)
    pixels = tuple(random.integers(0, 256, shape, dtype=np.uint8) for _ in range(num))
    return ImagePoint("samples", step, 0.0, pixels)


def items(told: list[EncodedEvent]) -> list[event_pb2.MediaItem]:
    return [item for event in told for item in events.decode(event.payload).media.items]


def taken(limits: MediaLimits, *batches: Batch) -> list[event_pb2.MediaItem]:
    chosen = MediaFilter(limits)
    return [item for batch in batches for item in items(chosen.events(1, 2, batch))]


def test_each_kind_arrives_as_it_was_tracked() -> None:
    histogram = HistogramPoint("w", 1, 0.0, (0.0, 0.5, 1.0), (3, 4), 9, 2.5, 1.5, 1, 1)
    indexed = IndexedPoint("loss", 1, 0.0, (5, -2), (0.5, float("inf")))
    image = picture(1, 14, 28, 3)
    batch = Batch(histograms=(histogram,), indexed=(indexed,), texts=(text(1),), images=(image,))
    found = {item.WhichOneof("content"): item for item in taken(MediaLimits(), batch)}
    assert found["text"].text == "hello"
    pixels = np.asarray(Image.open(io.BytesIO(found["image"].image.png)))
    assert np.array_equal(pixels, image.images_HWC[0])
    assert (found["image"].image.width, found["image"].image.height) == (28, 14)
    told = found["histogram"].histogram
    assert (list(told.edges), list(told.counts)) == ([0.0, 0.5, 1.0], [3, 4])
    assert (told.num_values, told.num_nan, told.num_infinite) == (9, 1, 1)
    assert list(found["indexed"].indexed.indices) == [5, -2]
    assert not any(item.is_cut for item in found.values())


@pytest.mark.parametrize("shape", [(3, 5, 1), (3, 5, 3), (3, 5, 4)])
def test_grey_colour_and_transparent_images_are_png(shape: tuple[int, ...]) -> None:
    image = picture(1, *shape, num=3)
    found = taken(MediaLimits(), Batch(images=(image,)))
    assert [item.image.index for item in found] == [0, 1, 2]
    pixels = np.asarray(Image.open(io.BytesIO(found[2].image.png))).reshape(shape)
    assert np.array_equal(pixels, image.images_HWC[2])


def test_of_what_is_tracked_often_fewer_and_fewer_are_taken(printed: io.StringIO) -> None:
    batches = [Batch(texts=(text(step, "often"),)) for step in range(2000)]
    batches[700] = Batch(texts=(text(700, "often"), text(700, "rare")))
    found = taken(MediaLimits(dense_items=50), *batches)
    steps = [item.step for item in found if item.name == "often"]
    assert steps[:50] == list(range(50))
    gaps = [after - before for before, after in itertools.pairwise(steps)]
    assert gaps == sorted(gaps)
    assert (gaps[-1], len(steps) < 300) == (40, True)
    assert [item.step for item in found if item.name == "rare"] == [700]
    (line,) = printed.getvalue().splitlines()
    assert line.startswith("'often' is tracked often: from step 50 on")
    assert "--media-items" in line


def test_equal_runs_choose_equally_however_they_are_batched(printed: io.StringIO) -> None:
    points = [text(step) for step in range(500)]
    one_by_one = taken(MediaLimits(10), *(Batch(texts=(point,)) for point in points))
    assert taken(MediaLimits(10), Batch(texts=tuple(points))) == one_by_one


def test_a_full_log_takes_no_more_and_says_so_once(printed: io.StringIO) -> None:
    batches = [Batch(texts=(text(step, value="x" * 1000),)) for step in range(10)]
    assert len(taken(MediaLimits(max_bytes=3500), *batches)) == 3
    (line,) = printed.getvalue().splitlines()
    assert "take no more from step 3 on" in line
    assert "--media-mb" in line


def test_none_is_taken_where_that_is_set(printed: io.StringIO) -> None:
    assert taken(MediaLimits(max_bytes=0), Batch(texts=(text(1),))) == []
    assert printed.getvalue() == ""


def test_what_is_larger_than_an_event_may_be_is_cut(printed: io.StringIO) -> None:
    image = picture(1, 1000, 700, 3)
    batch = Batch(
        images=(image,),
        texts=(text(1, "long", "é" * (MAX_TEXT_CHARS + 1)), text(1, "fits", "é" * MAX_TEXT_CHARS)),
        indexed=(
            IndexedPoint("many", 1, 0.0, (*range(MAX_INDICES + 1),), (1.0,) * (MAX_INDICES + 1)),
        ),
    )
    told = MediaFilter(MediaLimits()).events(1, 2, batch)
    found = {item.name: item for item in items(told)}
    assert {name for name, item in found.items() if item.is_cut} == {"samples", "long", "many"}
    assert found["long"].text == "é" * MAX_TEXT_CHARS + " … [1 more characters]"
    assert len(found["many"].indexed.values) == MAX_INDICES
    small = np.asarray(Image.open(io.BytesIO(found["samples"].image.png)))
    assert np.array_equal(small, image.images_HWC[0][::4, ::4])
    assert (found["samples"].image.height, found["samples"].image.width) == small.shape[:2]
    assert max(len(event.payload) for event in told) < MAX_ITEM_BYTES * 1.5
    assert printed.getvalue().count("is cut there") == 3


def test_an_item_that_fails_does_not_take_the_others_with_it(printed: io.StringIO) -> None:
    broken = ImagePoint("broken", 1, 0.0, (np.zeros((2, 2, 5), np.uint8),))
    found = taken(MediaLimits(), Batch(images=(broken, picture(1, 4, 4, 1)), texts=(text(1),)))
    assert [item.name for item in found] == ["samples", "note"]
    assert "'broken' at step 1 cannot be put into the run's events" in printed.getvalue()


# ---- asked for


def media(*points: TextPoint | ImagePoint) -> list[EncodedEvent]:
    texts = tuple(point for point in points if isinstance(point, TextPoint))
    images = tuple(point for point in points if isinstance(point, ImagePoint))
    return MediaFilter(MediaLimits()).events(1, 2, Batch(texts=texts, images=images))


async def everything(surface: Surface, **wanted: Any) -> list[event_pb2.MediaItem]:
    found: list[event_pb2.MediaItem] = []
    request = pb.QueryMediaRequest(**wanted)
    while True:
        answer = await surface.stub.QueryMedia(request)
        found += answer.items
        if not answer.next_page_token:
            return found
        request.page_token = answer.next_page_token


async def test_what_a_resume_took_back_is_left_out(surface: Surface) -> None:
    run = await surface.run(RunState.RUNNING)
    told = [
        *media(text(1), text(2), text(3)),
        events.encode_truncate(2, 1, 2),
        *media(text(3, value="again")),
        events.encode_truncate(3, 1, -1),
        *media(text(0, value="anew")),
    ]
    run = await surface.supervisor.say(run, *told[:3])
    found = await everything(surface, run_id=run.id)
    assert [(item.step, item.text) for item in found] == [(1, "hello"), (2, "hello"), (3, "again")]
    await surface.supervisor.say(run, *told[3:])
    assert [item.text for item in await everything(surface, run_id=run.id)] == ["anew"]


async def test_at_the_step_of_a_checkpoint_counts_what_was_not_tracked_again(
    surface: Surface,
) -> None:
    run = await surface.run(RunState.RUNNING)
    told = [
        *media(text(5, "before"), text(6, "before"), text(6, "after"), text(7, "before")),
        events.encode_truncate(2, 1, 5, 6),  # the numbers of step 6 are sent again
        *media(text(6, "after", "again"), text(7, "before", "again")),
    ]
    await surface.supervisor.say(run, *told)
    found = await everything(surface, run_id=run.id)
    assert [(item.name, item.step, item.text) for item in found] == [
        ("before", 5, "hello"),
        ("before", 6, "hello"),
        ("after", 6, "again"),
        ("before", 7, "again"),
    ]


async def test_items_are_asked_for_by_kind_name_and_step(surface: Surface) -> None:
    run = await surface.run(RunState.RUNNING)
    for step in range(4):
        points = text(step), text(step, "other"), picture(step, 2, 2, 1)
        run = await surface.supervisor.say(run, *media(*points))
    images = await everything(surface, run_id=run.id, kind=pb.MEDIA_KIND_IMAGE)
    assert [item.step for item in images] == [0, 1, 2, 3]
    named = await everything(surface, run_id=run.id, names=["oth*"], min_step=1, max_step=2)
    assert [(item.name, item.step) for item in named] == [("other", 1), ("other", 2)]
    assert await everything(surface, run_id=run.id, kind=pb.MEDIA_KIND_INDEXED) == []


async def test_large_answers_come_in_pages(surface: Surface) -> None:
    run = await surface.run(RunState.RUNNING)
    for step in range(30):
        value = str(step) * 40_000
        run = await surface.supervisor.say(run, *media(text(step, value=value)))
    first = await surface.stub.QueryMedia(pb.QueryMediaRequest(run_id=run.id))
    assert 0 < len(first.items) < 30
    assert [i.step for i in await everything(surface, run_id=run.id)] == list(range(30))


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"page_token": "x"}, "page_token"),
        ({"page_token": "-1"}, "page_token"),
        ({"page_token": "9" * 40}, "page_token"),
        ({"kind": 77}, "kind"),
        ({"names": ["x" * 1000]}, "names"),
    ],
)
async def test_a_wrong_request_is_refused(
    surface: Surface, wrong: dict[str, Any], field: str
) -> None:
    run = await surface.run(RunState.RUNNING)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await surface.stub.QueryMedia(pb.QueryMediaRequest(run_id=run.id, **wrong))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in str(refused.value.details())


async def test_the_http_api_has_images_as_base64(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    run = await surface.run(RunState.RUNNING)
    (told,) = media(picture(1, 4, 6, 1))
    await surface.supervisor.say(run, told)
    async with site.get(f"/api/v1/runs/{run.id}/media?kind=IMAGE") as response:
        assert response.status == 200
        (item,) = (await response.json())["items"]
    png = base64.b64decode(item["image"]["png"])
    assert Image.open(io.BytesIO(png)).size == (6, 4)

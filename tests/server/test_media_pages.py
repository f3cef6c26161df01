"""The page of a run's images, texts and histograms, as a browser without JavaScript gets it."""

from __future__ import annotations

import io
import re

import aiohttp
import numpy as np
import pytest
from PIL import Image

from lab_core.writers.base import Batch, HistogramPoint, IndexedPoint
from lab_rpc.v1 import event_pb2
from lab_server.messages import events
from lab_server.messages.events import EncodedEvent
from lab_server.model.media import MediaLimits
from lab_server.model.run import RunState
from lab_server.pages.indexed import plot_of
from lab_server.trainer.media import MediaFilter
from tests.server.conftest import Surface
from tests.server.sites import EVIL
from tests.server.test_media import media, picture, text


def histogram(step: int, *, total: float = 2.0) -> list[EncodedEvent]:
    point = HistogramPoint("weights", step, 0.0, (0.0, 0.5, 1.0), (3, 1), 5, total, 1.5, 1, 0)
    return MediaFilter(MediaLimits()).events(1, 2, Batch(histograms=(point,)))


async def get_page(site: aiohttp.ClientSession, path: str) -> tuple[int, str]:
    async with site.get(path) as response:
        return response.status, await response.text()


def _captions(page: str) -> list[tuple[str, int]]:
    found = re.findall(r"<bdi>([^<]*)</bdi> <span class=\"faint\">step (\d+)", page)
    return [(name, int(step)) for name, step in found]


async def test_a_step_shows_what_was_tracked_last_up_to_it(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    run = await surface.run(RunState.RUNNING)
    path = f"/runs/{run.id}/media"
    assert path not in (await get_page(site, f"/runs/{run.id}"))[1]
    for step in (1, 5):
        told = media(text(step, value=f"note of {step}"), picture(step, 4, 6, 3, num=2))
        run = await surface.supervisor.say(run, *told)
    run = await surface.supervisor.say(run, *histogram(3))

    assert path in (await get_page(site, f"/runs/{run.id}"))[1]
    status, last = await get_page(site, path)
    assert status == 200
    assert _captions(last) == [("samples", 5), ("note", 5), ("weights", 3)]
    assert "note of 5" in last
    assert "5 numbers; mean 0.5, standard deviation 0.3536; 1 NaN, 0 infinite" in last
    assert last.count("<rect") == 2
    assert "at=3" in last, "the way back"
    _, before = await get_page(site, f"{path}?at=2")
    assert _captions(before) == [("samples", 1), ("note", 1)]
    assert "at=3" in before, "and forth"

    pictures = re.findall(r'src="([^"]*/media/image[^"]*)"', before)
    assert len(pictures) == 2
    async with site.get(pictures[1].replace("&amp;", "&")) as response:
        assert response.content_type == "image/png"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        pixels = np.asarray(Image.open(io.BytesIO(await response.read())))
    assert np.array_equal(pixels, picture(1, 4, 6, 3, num=2).images_HWC[1])


async def test_the_page_leaves_out_what_a_resume_took_back(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    run = await surface.run(RunState.RUNNING)
    path = f"/runs/{run.id}/media"
    run = await surface.supervisor.say(run, *media(text(1), text(2, value="taken back")))
    assert "taken back" in (await get_page(site, path))[1]
    run = await surface.supervisor.say(run, events.encode_truncate(2, 1, 1))
    assert _captions((await get_page(site, path))[1]) == [("note", 1)]
    await surface.supervisor.say(run, *media(text(2, value="again")))
    page = (await get_page(site, path))[1]
    assert ("taken back" in page, "again" in page) == (False, True)


async def test_the_first_names_are_shown_and_all_at_a_link(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    run = await surface.run(RunState.RUNNING)
    await surface.supervisor.say(run, *media(*(text(1, f"note{i:02}") for i in range(20))))
    _, first = await get_page(site, f"/runs/{run.id}/media")
    assert len(_captions(first)) == 12
    assert "8 more names" in first
    (link,) = re.findall(r'href="([^"]*names=all[^"]*)"', first)
    _, whole = await get_page(site, link.replace("&amp;", "&"))
    assert len(_captions(whole)) == 20


async def test_tracked_text_is_text(surface: Surface, site: aiohttp.ClientSession) -> None:
    run = await surface.run(RunState.RUNNING)
    await surface.supervisor.say(run, *media(text(1, EVIL, EVIL)))
    _, page = await get_page(site, f"/runs/{run.id}/media")
    assert "<img src=x" not in page
    assert "&lt;img src=x" in page


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("media?at=one", 400, "the step must be a whole number"),
        (f"media?at={'9' * 40}", 400, "the step must be a whole number"),
        ("media/image", 400, "step must be a whole number"),
        ("media/image?name=note&step=1&index=0", 404, "the run has no such image"),
        ("media/image?name=samples&step=2&index=0", 404, "the run has no such image"),
        ("media/image?name=samples&step=1&index=9", 404, "the run has no such image"),
    ],
)
async def test_what_is_not_there_gets_a_sentence(
    surface: Surface, site: aiohttp.ClientSession, path: str, status: int, sentence: str
) -> None:
    run = await surface.run(RunState.RUNNING)
    await surface.supervisor.say(run, *media(text(1), picture(1, 4, 6, 3)))
    found, page = await get_page(site, f"/runs/{run.id}/{path}")
    assert (found, sentence in page) == (status, True), page
    assert (await get_page(site, "/runs/nobody/media"))[0] == 404


@pytest.mark.parametrize(
    ("edges", "counts"), [((), ()), ((0.0, 0.0), (4,)), ((0.0, float("inf")), (4,)), ((1.0,), (1,))]
)
async def test_a_histogram_without_a_width_is_words(
    surface: Surface,
    site: aiohttp.ClientSession,
    edges: tuple[float, ...],
    counts: tuple[int, ...],
) -> None:
    run = await surface.run(RunState.RUNNING)
    point = HistogramPoint("weights", 1, 0.0, edges, counts, 4, 0.0, 0.0, 0, 0)
    told = MediaFilter(MediaLimits()).events(1, 2, Batch(histograms=(point,)))
    await surface.supervisor.say(run, *told)
    status, page = await get_page(site, f"/runs/{run.id}/media")
    assert (status, "4 numbers" in page) == (200, True)


def indexed(step: int, *pairs: tuple[int, float], name: str = "sample loss") -> list[EncodedEvent]:
    indices, values = zip(*pairs, strict=True) if pairs else ((), ())
    point = IndexedPoint(name, step, 0.0, tuple(indices), tuple(values))
    return MediaFilter(MediaLimits()).events(1, 2, Batch(indexed=(point,)))


async def test_indexed_values_are_a_plot_and_a_table_of_the_greatest(
    surface: Surface, site: aiohttp.ClientSession
) -> None:
    run = await surface.run(RunState.RUNNING)
    pairs = [(index, index / 100) for index in range(150)]
    run = await surface.supervisor.say(run, *indexed(1, *pairs))
    run = await surface.supervisor.say(run, *indexed(2, (4, 0.5), (-7, float("nan")), (9, 2.5)))
    path = f"/runs/{run.id}/media"
    status, page = await get_page(site, path)
    assert (status, _captions(page)) == (200, [("sample loss", 2)])
    assert "3 values; mean 1.5, greatest 2.5 at 9; 1 NaN, 0 infinite" in page
    rows = re.findall(r'<th scope="row" class="num">(-?\d+)</th><td class="num">([^<]*)', page)
    assert rows == [("-7", "nan"), ("9", "2.5"), ("4", "0.5")], "what is wrong first"
    assert 'd="M0 110.0V110.0M300 0.0V0.0"' in page
    _, before = await get_page(site, f"{path}?at=1")
    rows = re.findall(r'<th scope="row" class="num">(\d+)</th>', before)
    assert rows == [str(index) for index in range(149, 49, -1)]
    assert "50 more" in before
    (link,) = re.findall(r'href="(/api/[^"]*)"', before)
    async with site.get(link.replace("&amp;", "&")) as response:
        items = (await response.json())["items"]
    assert [len(item["indexed"]["indices"]) for item in items] == [150]


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ((), "0 values"),
        (((3, float("nan")), (4, float("-inf"))), "2 values; 1 NaN, 1 infinite"),
        (((3, 2.0),), "1 value; mean 2, greatest 2 at 3"),
        (((-(2**63), 1.5e308), (2**63 - 1, -1.5e308)), "2 values; mean 0, greatest 1.5e+308"),
    ],
)
def test_any_indexed_values_have_a_picture_or_words(
    pairs: tuple[tuple[int, float], ...], words: str
) -> None:
    found = event_pb2.IndexedValues(indices=[i for i, _ in pairs], values=[v for _, v in pairs])
    plot = plot_of(found)
    assert plot.text.startswith(words)
    assert "nan" not in plot.path
    assert bool(plot.path) == any(abs(value) < float("inf") for _, value in pairs)


def test_many_indexed_values_are_a_small_picture_that_hides_no_outlier() -> None:
    values = [1.0] * 16_384
    values[5000] = 9.0
    plot = plot_of(event_pb2.IndexedValues(indices=range(len(values)), values=values))
    assert len(plot.path) < 5000
    assert "M92 0.0V110.0" in plot.path
    assert plot.rows[0] == (5000, "9")

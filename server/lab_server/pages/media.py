"""What a run tracked beside metrics, at a step: its images, texts, histograms and indexed values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from aiohttp import web

from lab_rpc.v1 import event_pb2, run_pb2, training_service_pb2
from lab_server.api.errors import Refused
from lab_server.api.gate import Gate
from lab_server.api.routes import method_of
from lab_server.pages.histogram import Bars, bars_of
from lab_server.pages.indexed import Plot, plot_of
from lab_server.pages.render import Pages
from lab_server.rpc.site_parts import SiteParts
from lab_server.watch.media_index import Tracked

pb = training_service_pb2

_KINDS: Final = ("image", "text", "histogram", "indexed")
_FIRST_NAMES: Final = 12
_MAX_NAMES: Final = 500
_MAX_IMAGES: Final = 16


@dataclass(slots=True)
class Card:
    """What a run tracked under a name, at the last step up to the one that is shown.

    Attributes:
        images: their addresses, and sizes in pixels.
        num_left_out: of the images.
    """

    name: str
    step: int
    images: list[tuple[str, int, int]]
    texts: list[str]
    histograms: list[Bars]
    plots: list[Plot]
    is_cut: bool = False
    num_left_out: int = 0


class MediaPage:
    """Serves `/runs/{run_id}/media` and its pictures."""

    def __init__(self, gate: Gate, pages: Pages, parts: SiteParts) -> None:
        self._gate = gate
        self._pages = pages
        self._parts = parts

    async def show(self, request: web.Request) -> web.StreamResponse:
        """Show what there is at a step, the last one unless the address has another."""
        run = await self._run(request)
        items = await self._items(run)
        steps = sorted({item.step for item in items})
        asked = request.query.get("at", "")
        at = _whole("the step", asked) if asked else steps[-1] if steps else 0
        at = max((step for step in steps if step <= at), default=steps[0] if steps else 0)
        chosen = _newest(items, at)
        place = steps.index(at) if steps else 0
        num = _MAX_NAMES if request.query.get("names") == "all" else _FIRST_NAMES
        values = {
            "run": run,
            "cards": await self._cards(run, chosen[:num]),
            "num_hidden": max(0, len(chosen) - num),
            "has_all": num == _MAX_NAMES,
            "steps": steps,
            "at": at,
            "before": steps[place - 1] if place else None,
            "after": steps[place + 1] if place + 1 < len(steps) else None,
        }
        return self._pages.page("media.html", values)

    async def image(self, request: web.Request) -> web.StreamResponse:
        """Answer with a picture."""
        run = await self._run(request)
        query = request.query
        step, index = _whole("step", query.get("step", "")), _whole("index", query.get("index", ""))
        wanted = [
            item
            for item in await self._items(run)
            if (item.name, item.step, item.index) == (query.get("name", ""), step, index)
        ]
        found = [
            item for item in await self._parts.media.read(run.id, wanted) if item.HasField("image")
        ]
        if not found:
            raise Refused(404, "NO_IMAGE", "the run has no such image")
        headers = {
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "Cache-Control": "private, max-age=3600",
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        return web.Response(body=found[-1].image.png, content_type="image/png", headers=headers)

    async def _run(self, request: web.Request) -> run_pb2.Run:
        self._gate.admit(request, method_of("QueryMedia"))
        wanted = pb.GetRunRequest(run_id=request.match_info["run_id"])
        return (await self._parts.service.GetRun(wanted, None)).run

    async def _items(self, run: run_pb2.Run) -> Sequence[Tracked]:
        return await self._parts.media.of(run.id, run.last_seq)

    async def _cards(self, run: run_pb2.Run, chosen: Sequence[Sequence[Tracked]]) -> list[Card]:
        """Return what is chosen of each name, with the content that a page itself has."""
        inner = [item for items in chosen for item in items[:1] if item.kind != "image"]
        images = [item for items in chosen for item in items[:_MAX_IMAGES] if item.kind == "image"]
        read = await self._parts.media.read(run.id, [*inner, *images])
        # of those of one place, the last is what was tracked again
        content = {(item.name, item.step, item.image.index): item for item in read}
        return [card for items in chosen for card in [_card(run.id, items, content)] if card]


def _card(
    run_id: str,
    items: Sequence[Tracked],
    content: Mapping[tuple[str, int, int], event_pb2.MediaItem],
) -> Card | None:
    card = Card(items[0].name, items[0].step, [], [], [], [])
    card.num_left_out = max(0, len(items) - _MAX_IMAGES)
    for item in items[:_MAX_IMAGES]:
        found = content.get((item.name, item.step, item.index))
        if found is None:
            continue
        card.is_cut |= found.is_cut
        match found.WhichOneof("content"):
            case "image":
                query = urlencode({"name": item.name, "step": item.step, "index": item.index})
                url = f"/runs/{run_id}/media/image?{query}"
                card.images.append((url, found.image.width, found.image.height))
            case "text":
                card.texts.append(found.text)
            case "histogram":
                card.histograms.append(bars_of(found.histogram))
            case "indexed":
                card.plots.append(plot_of(found.indexed))
    return card if card.images or card.texts or card.histograms or card.plots else None


def _newest(items: Iterable[Tracked], at: int) -> list[list[Tracked]]:
    """Return of each name what was tracked at the last step up to one, each picture once; images first."""
    found: dict[str, dict[int, Tracked]] = {}
    for item in items:
        if item.step > at:
            continue
        known = found.setdefault(item.name, {})
        if known and next(iter(known.values())).step < item.step:
            known.clear()
        if not known or next(iter(known.values())).step == item.step:
            known[item.index] = item
    each = [[known[index] for index in sorted(known)] for known in found.values()]
    return sorted(each, key=lambda same: (_KINDS.index(same[0].kind), same[0].name))


def _whole(name: str, text: str) -> int:
    try:
        value = int(text) if len(text) < 20 else None
    except ValueError:
        value = None
    if value is None:
        raise Refused(400, "BAD_STEP", f"{name} must be a whole number, got {text[:100]!r}")
    return value

"""Images, texts, indexed values and histograms of real runs, also of one whose trainer dies."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from lab_rpc.v1 import event_pb2
from lab_server.model.run import Run
from lab_server.watch.media import query_media
from tests.runs.rig import Rig

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow]


async def tracked(rig: Rig, run: Run) -> dict[tuple[str, int], event_pb2.MediaItem]:
    """Return what the run tracked; nothing may be there twice."""
    found: dict[tuple[str, int], event_pb2.MediaItem] = {}
    seq: int | None = 0
    while seq is not None:
        page = await query_media(rig.store, run.id, lambda _: True, seq, max_bytes=3000)
        for item in page.items:
            assert (item.name, item.step) not in found
            found[item.name, item.step] = item
        seq = page.next_seq
    return found


async def test_all_kinds_reach_the_log_and_a_killed_run_has_what_an_undisturbed_one_has(
    rig: Rig,
) -> None:
    disturbed = await rig.ended(await rig.start(is_shown=True, kill_at=[27]))
    plain = await rig.ended(await rig.start(is_shown=True))
    assert disturbed.attempt == 2
    wanted = await tracked(rig, plain)
    assert {step for name, step in wanted if name == "picture"} == set(range(1, 61))
    assert len(wanted) == 4 * 60
    image: Any = Image.open(io.BytesIO(wanted["picture", 5].image.png))
    assert (image.size, image.getpixel((0, 0))) == ((6, 4), 5)
    assert wanted["words", 5].text == "step 5"
    assert list(wanted["each", 5].indexed.indices) == [7, 9]
    assert wanted["each", 5].indexed.values[1] == 5
    assert wanted["spread", 5].histogram.num_values == 12
    # of the last moment before a kill only numbers are sure to be there, and it is trained again
    assert await tracked(rig, disturbed) == wanted
    assert disturbed.metrics == plain.metrics


async def test_they_go_with_the_run(rig: Rig) -> None:
    run = await rig.ended(await rig.start(is_shown=True))
    assert await tracked(rig, run)
    await rig.supervisor.delete(run.id)
    assert not [e for e in await rig.store.events(run.id, 0, 1 << 20) if e.kind == "media"]

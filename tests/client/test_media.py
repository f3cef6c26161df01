"""Images, texts, histograms and indexed values of a run, in both clients and on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lab_client.cli.app import app
from lab_client.cli.media import path_of
from lab_client.media import IndexedValues, Media, TrackedHistogram, TrackedImage, TrackedText
from lab_rpc.v1 import event_pb2
from tests.client.twin import Twin, TwinRun

PNG = b"\x89PNG\r\n\x1a\n..."


def tracked(twin: Twin) -> TwinRun:
    """Return a run that tracked something of each kind, at two steps."""
    run = twin.add_run()
    for step in (3, 9):
        run.add(
            media=event_pb2.Media(
                items=[
                    event_pb2.MediaItem(
                        name="samples",
                        step=step,
                        image=event_pb2.Image(png=PNG, width=28, height=14, index=step % 2),
                    ),
                    event_pb2.MediaItem(name="note", step=step, text=f"at {step}", is_cut=step > 5),
                    event_pb2.MediaItem(
                        name="weights",
                        step=step,
                        histogram=event_pb2.Histogram(
                            edges=[0, 1, 2], counts=[4, 5], num_values=10, num_nan=1
                        ),
                    ),
                    event_pb2.MediaItem(
                        name="sample_loss",
                        step=step,
                        indexed=event_pb2.IndexedValues(indices=[7, -1], values=[0.5, 0.25]),
                    ),
                ]
            )
        )
    return run


def test_each_kind_is_read_page_by_page(client: Any, twin: Twin) -> None:
    handle = client.run(tracked(twin).message.id)
    assert list(handle.images()) == [
        TrackedImage("samples", step, PNG, 28, 14, index=1, is_cut=False) for step in (3, 9)
    ]
    assert list(handle.texts()) == [
        TrackedText("note", 3, "at 3", is_cut=False),
        TrackedText("note", 9, "at 9", is_cut=True),
    ]
    (histogram, _) = handle.histograms()
    assert isinstance(histogram, TrackedHistogram)
    assert (histogram.edges, histogram.counts, histogram.num_nan) == ([0, 1, 2], [4, 5], 1)
    indexed = next(iter(handle.indexed()))
    assert indexed == IndexedValues("sample_loss", 3, [7, -1], [0.5, 0.25], is_cut=False)
    assert "sample_loss" in repr(indexed)
    assert "[" not in repr(indexed), "a notebook shows no million of numbers"


def test_items_are_chosen_by_name_and_step(client: Any, twin: Twin) -> None:
    handle = client.run(tracked(twin).message.id)
    assert [item.step for item in handle.images("sam*", min_step=4)] == [9]
    assert [item.step for item in handle.images(["samples"], max_step=8)] == [3]
    assert list(handle.images("other")) == []
    assert list(client.run(twin.add_run().message.id).texts()) == []


def test_they_are_events_too(client: Any, twin: Twin) -> None:
    (first, _) = client.run(tracked(twin).message.id).events(follow=False)
    assert first.kind == "media"
    assert isinstance(first.body, Media)
    assert [item.kind for item in first.body.items] == ["image", "text", "histogram", "indexed"]


def test_an_item_is_saved_and_an_image_shown(client: Any, twin: Twin, tmp_path: Path) -> None:
    handle = client.run(tracked(twin).message.id)
    image = next(iter(handle.images()))
    assert image._repr_png_() == PNG
    assert repr(image) == "<TrackedImage samples 28x14 at step 3>"
    assert image.save(tmp_path / "new" / "x.png").read_bytes() == PNG
    assert next(iter(handle.texts())).save(tmp_path / "x.txt").read_text() == "at 3"
    saved = json.loads(next(iter(handle.histograms())).save(tmp_path / "h").read_text())
    assert saved["edges"] == [0, 1, 2]
    saved = json.loads(next(iter(handle.indexed())).save(tmp_path / "i").read_text())
    assert saved == {"indices": [7, -1], "values": [0.5, 0.25]}


def lab(twin: Twin, *arguments: str) -> Any:
    return CliRunner().invoke(app, ["--server", twin.address, *arguments])


def test_the_command_lists_what_there_is_and_writes_it(twin: Twin, tmp_path: Path) -> None:
    run_id = tracked(twin).message.id
    listed = lab(twin, "media", run_id).stdout
    assert "28 x 14" in listed
    assert "at 9 (cut)" in listed
    assert "weights" not in listed, "histograms of all parameters would hide the rest"
    assert "10 values from 0 to 2" in lab(twin, "media", run_id, "--kind", "histograms").stdout
    assert "weights" in lab(twin, "media", run_id, "w*").stdout
    lab(twin, "media", run_id, "--to", str(tmp_path), "-k", "images", "-k", "texts")
    written = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*"))
    assert written == ["note/3.txt", "note/9.txt", "samples/3-1.png", "samples/9-1.png"]
    (first, *_) = json.loads(lab(twin, "media", run_id, "--json", "-k", "indexed").stdout)
    assert first["values"] == [0.5, 0.25]
    empty = twin.add_run().message.id
    for arguments in ((), ("--to", str(tmp_path))):
        assert "tracked none of these" in lab(twin, "media", empty, *arguments).stderr


@pytest.mark.parametrize("name", ["../../etc/x", "..", ".", "a/b", "", "/root", "a\x00b"])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    path = path_of(tmp_path, TrackedText(name, 1, "", is_cut=False))
    assert path.resolve().parent.parent in (tmp_path.resolve(), tmp_path.resolve().parent)
    assert path.resolve().is_relative_to(tmp_path.resolve())
    assert "\x00" not in str(path)

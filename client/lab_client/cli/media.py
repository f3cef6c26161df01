"""`lab media`: images, texts, histograms and indexed values that a run tracked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer
from rich.text import Text

from lab_client.cli.arguments import RunId
from lab_client.cli.context import AsJson, connect, console, print_json
from lab_client.cli.tables import columns
from lab_client.media import (
    IndexedValues,
    MediaItem,
    TrackedHistogram,
    TrackedImage,
    TrackedText,
)
from lab_client.sync.run import Run

_MAX_CHARS = 60
_SUFFIXES = {"image": "png", "text": "txt", "histogram": "json", "indexed": "json"}


class Kind(StrEnum):
    """What to list."""

    IMAGES = "images"
    TEXTS = "texts"
    HISTOGRAMS = "histograms"
    INDEXED = "indexed"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("media")(media)


def media(
    context: typer.Context,
    run: RunId,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Globs of names; all when not given.")
    ] = None,
    kinds: Annotated[
        list[Kind] | None,
        typer.Option("--kind", "-k", help="May be repeated. All but histograms when not given."),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(help="Folder to write them to: NAME/STEP.png, .txt, .json."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the images, texts and indexed values that a run tracked, or write them to a folder."""
    if as_json and to is not None:
        raise typer.BadParameter("give --json or --to FOLDER, not both")
    handle = connect(context).run(run)
    wanted = kinds or [kind for kind in Kind if names or kind is not Kind.HISTOGRAMS]
    found = _found(handle, wanted, names)
    if as_json:
        print_json([_facts(item) for item in found])
        return
    num_found = _write(to, found) if to is not None else _print(list(found))
    if not num_found:
        typer.echo(f"Run {handle.id} has tracked none of these so far.", err=True)


def path_of(folder: Path, item: MediaItem) -> Path:
    """Return where an item is written: a folder a name, whatever the name is, and a file a step."""
    number = f"-{item.index}" if isinstance(item, TrackedImage) and item.index else ""
    name = quote(item.name, safe=" ")
    name = name.replace(".", "%2E") if not name.strip(". ") else name
    return folder / name / f"{item.step}{number}.{_SUFFIXES[item.kind]}"


def _found(run: Run, kinds: Sequence[Kind], names: list[str] | None) -> Iterator[MediaItem]:
    if Kind.IMAGES in kinds:
        yield from run.images(names)
    if Kind.TEXTS in kinds:
        yield from run.texts(names)
    if Kind.HISTOGRAMS in kinds:
        yield from run.histograms(names)
    if Kind.INDEXED in kinds:
        yield from run.indexed(names)


def _facts(item: MediaItem) -> dict[str, object]:
    facts: dict[str, object] = {"kind": item.kind, "name": item.name, "step": item.step}
    match item:
        case TrackedImage():
            facts |= {"index": item.index, "width": item.width, "height": item.height}
        case TrackedText():
            facts["text"] = item.text
        case TrackedHistogram():
            facts |= {"edges": list(item.edges), "counts": list(item.counts)}
        case IndexedValues():
            facts |= {"indices": list(item.indices), "values": list(item.values)}
    return facts | {"is_cut": item.is_cut}


def _write(folder: Path, found: Iterable[MediaItem]) -> int:
    num_written = 0
    for item in found:
        typer.echo(item.save(path_of(folder, item)))
        num_written += 1
    return num_written


def _print(found: Sequence[MediaItem]) -> int:
    table = columns("KIND", "NAME", "STEP", "WHAT")
    for item in found:
        cut = " (cut)" if item.is_cut else ""
        table.add_row(item.kind, Text(item.name), f"{item.step}", Text(_short(item) + cut))
    if found:
        console().print(table)
    return len(found)


def _short(item: MediaItem) -> str:
    match item:
        case TrackedImage():
            return f"{item.width} x {item.height}, {len(item.png):,} bytes"
        case TrackedText():
            line = " ".join(item.text.split())
            return line if len(line) <= _MAX_CHARS else f"{line[:_MAX_CHARS]} ..."
        case TrackedHistogram():
            low, high = (item.edges[0], item.edges[-1]) if item.counts else (0.0, 0.0)
            return f"{item.num_values:,} values from {low:.4g} to {high:.4g}"
        case IndexedValues():
            return f"{len(item.values):,} values"

"""`lab download`, `lab artifacts`: the files of a run."""

from __future__ import annotations

from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from lab_client.cli.arguments import RunId
from lab_client.cli.context import AsJson, connect, console, print_json
from lab_client.cli.tables import columns
from lab_client.errors import ArtifactNotFound

_MODEL = "model"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("artifacts")(artifacts)
    app.command("download")(download)


def artifacts(context: typer.Context, run: RunId, as_json: AsJson = False) -> None:
    """List the files of a run."""
    found = connect(context).run(run).artifacts()
    if as_json:
        print_json(found)
        return
    table = columns("FILE", "BYTES")
    for item in found:
        table.add_row(item.path, f"{item.size_bytes:,}")
    console().print(table)


def download(
    context: typer.Context,
    run: RunId,
    globs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE",
            help="Globs of paths, or model for the newest checkpoint's; all files when not given.",
        ),
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="Folder to write to; the run's id when not given.")
    ] = None,
) -> None:
    """Download the files of a run; an interrupted download continues."""
    client = connect(context)
    handle = client.run(run)
    folder = to or Path(handle.id)
    found = handle.artifacts()
    globs = globs or ["*"]
    matching = {glob: [item for item in found if _matches(item.path, glob)] for glob in globs}
    missing = [glob for glob in globs if glob != _MODEL and not matching[glob]]
    if missing:
        raise ArtifactNotFound(
            f"run {handle.id} has no file {' or '.join(map(repr, missing))}; "
            f"list its files with: lab artifacts {handle.id}"
        )
    if _MODEL in globs:
        folder.mkdir(parents=True, exist_ok=True)
        typer.echo(handle.download_model(_MODEL, folder))
    for item in dict.fromkeys(chain.from_iterable(matching.values())):
        typer.echo(handle.download(item.path, item.below(folder)))


def _matches(path: str, glob: str) -> bool:
    return path == glob or fnmatchcase(path, glob)

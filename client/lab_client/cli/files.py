"""`lab download`, `lab artifacts`: the files of a run."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from lab_client.cli.arguments import RunId
from lab_client.cli.context import AsJson, connect, console, print_json
from lab_client.errors import ArtifactNotFound

_MODEL = "model"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("artifacts")(artifacts)
    app.command("download")(download)


def artifacts(context: typer.Context, run: RunId, as_json: AsJson = False) -> None:
    """List the files of a run."""
    found = connect(context).artifacts(_full_id(context, run))
    if as_json:
        print_json(found)
        return
    table = Table("FILE", "BYTES", box=None, pad_edge=False)
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
    chosen = [
        item
        for item in found
        if item.path in globs or any(fnmatchcase(item.path, glob) for glob in globs)
    ]
    if _MODEL in globs:
        folder.mkdir(parents=True, exist_ok=True)
        typer.echo(handle.download_model(_MODEL, folder))
    elif not chosen:
        raise ArtifactNotFound(
            f"run {handle.id} has no such file; list them with: lab artifacts {handle.id}"
        )
    for item in chosen:
        typer.echo(handle.download(item.path, item.below(folder)))


def _full_id(context: typer.Context, run: str) -> str:
    return connect(context).get(run).id

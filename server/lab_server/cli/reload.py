"""`lab-server reload`: have a running server import its experiments anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lab_server.cli.exit_codes import errors_as_exit_codes


def reload(
    home: Annotated[Path | None, typer.Option(help="the server's folder (env LAB_HOME)")] = None,
) -> None:
    """Import the experiments of a running server anew; runs that train are not touched."""
    from lab_server.app.reload import ask_to_reload
    from lab_server.settings.loading import load

    with errors_as_exit_codes():
        pid = ask_to_reload(load({"home": home}).settings.home)
        typer.echo(f"asked the server (process {pid}) to load its experiments anew")
        typer.echo("see what it found with: lab experiments")

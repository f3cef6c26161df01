"""The command's root: its options, its commands, and what becomes of errors."""

from __future__ import annotations

from inspect import getdoc
from pathlib import Path
from typing import Annotated

import typer

from lab_client.cli import (
    catalogue,
    compare,
    dashboard,
    doctor,
    files,
    listing,
    media,
    running,
    searching,
)
from lab_client.cli.context import ErrorGroup, Settings

app = typer.Typer(
    name="lab",
    cls=ErrorGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    rich_markup_mode=None,  # its boxes cut flags where there is little room
    help="Train on a lab-server: start runs, watch them, compare them.\n\n"
    "Exit codes: 0 success, 1 the run or the command failed, 2 wrong usage, 3 no connection, 4 the watched run "
    "was stopped, 130 interrupted with Ctrl-C.",
)


def _version(asked: bool) -> None:
    if asked:
        from lab_client import __version__

        typer.echo(f"lab {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    server: Annotated[
        str | None,
        typer.Option(
            "--server",
            "-s",
            envvar="LAB_SERVER",
            help="The server's address, HOST:PORT; several of one store with commas between.",
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="LAB_TOKEN", help="The bearer token.", show_envvar=True, metavar="TOKEN"
        ),
    ] = None,
    tls: Annotated[
        bool | None, typer.Option("--tls/--no-tls", help="Encrypt the connection.")
    ] = None,
    ca: Annotated[
        Path | None, typer.Option(envvar="LAB_CA", help="Certificate of the CA to trust, PEM.")
    ] = None,
    cert: Annotated[
        Path | None, typer.Option(envvar="LAB_CERT", help="Client certificate, PEM.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(envvar="LAB_KEY", help="Its private key, PEM.")
    ] = None,
    version: Annotated[  # noqa: ARG001  # its callback acts
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Keep the options for the command that follows."""
    context.obj = Settings(server, token, tls, ca, cert, key)


for _module in (catalogue, running, listing, compare, searching, files, media, dashboard, doctor):
    _module.register(app)
for _command in app.registered_commands:  # the whole line: what is made without this is cut
    _command.short_help = (getdoc(_command.callback) or "").partition("\n")[0]

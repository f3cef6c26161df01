"""`lab dashboard`: the dashboard in the browser, logged in."""

from __future__ import annotations

import ipaddress
import webbrowser
from typing import Annotated
from urllib.parse import quote, urlsplit, urlunsplit

import typer

from lab_client.cli.context import Settings, connect
from lab_client.runs import Dashboard


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("dashboard")(dashboard)


def dashboard(
    context: typer.Context,
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="A run's id, or the beginning of it.")
    ] = None,
    is_open: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the browser, or only print the address.")
    ] = True,
) -> None:
    """Open the dashboard, or a run in it, in the browser, logged in."""
    client = connect(context)
    path = f"/runs/{client.run(run).id}" if run else "/"
    found = client.dashboard()
    settings: Settings = context.obj or Settings()
    address = reachable(found.url, settings.target().address)
    typer.echo(address + path)
    link = logged_in(Dashboard(address, found.code), path)
    if not is_open:
        if found.code:
            typer.echo(f"log in, once and within a minute: {link}")
    elif not webbrowser.open(link):
        typer.echo("lab: no browser could be opened; open the address yourself", err=True)


def reachable(url: str, server: str) -> str:
    """Return the dashboard's address for this machine: a server that listens everywhere does not know it.

    Args:
        url: as the server has it.
        server: where gRPC was reached, HOST:PORT or a socket; several with commas between.
    """
    parts = urlsplit(url)
    try:
        is_everywhere = ipaddress.ip_address(parts.hostname or "").is_unspecified
    except ValueError:
        is_everywhere = False
    if not is_everywhere:
        return url
    first = server.partition(",")[0]
    host = "localhost" if first.startswith("unix:") else first.rpartition(":")[0]
    return urlunsplit(parts._replace(netloc=f"{host}:{parts.port}"))


def logged_in(found: Dashboard, path: str) -> str:
    """Return the link that opens a page logged in: the code is in the fragment, which no server sees."""
    if not found.code:
        return found.url + path
    return f"{found.url}/login?next={quote(path, safe='')}#code={quote(found.code, safe='')}"

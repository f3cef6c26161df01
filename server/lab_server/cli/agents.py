"""`lab-server agents`: list the agents that have joined, and revoke one's credential."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from lab_core.errors import SettingsError
from lab_server.cli.exit_codes import errors_as_exit_codes
from lab_server.settings.loading import load

if TYPE_CHECKING:
    from sqlalchemy import Connection

T = TypeVar("T")

app = typer.Typer(
    help="List the agents that have joined, and revoke their credentials.", no_args_is_help=True
)

Home = Annotated[Path | None, typer.Option(help="folder of the server (env LAB_HOME)")]
Store = Annotated[
    str,
    typer.Option(
        help="URL of the store (env LAB_STORE); empty: SQLite in home", show_default=False
    ),
]


@app.command("list")
def list_all(home: Home = None, store: Store = "") -> None:
    """List the agents' credentials; a running server is not disturbed."""
    from lab_server.store.agent_table import credentials

    with errors_as_exit_codes():
        found = _in_store(home, store, credentials)
    typer.echo(f"{'id':<10}{'joined':<12}{'state':<10}{'pool':<16}name")
    for known in found:
        day = datetime.datetime.fromtimestamp(known.create_time_ns / 1e9, datetime.UTC).date()
        state = "revoked" if known.revoke_time_ns else "valid"
        typer.echo(f"{known.id:<10}{day!s:<12}{state:<10}{known.pool:<16}{known.name}")


@app.command("revoke")
def revoke(
    credential_id: Annotated[str, typer.Argument(help="the id that `list` shows")],
    home: Home = None,
    store: Store = "",
) -> None:
    """Revoke an agent's credential; running servers refuse it within seconds."""
    from lab_server.store.agent_table import revoke

    with errors_as_exit_codes():
        if not _in_store(home, store, lambda connection: revoke(connection, credential_id)):
            raise SettingsError(
                f"there is no agent {credential_id!r}; see `lab-server agents list`"
            )
    typer.echo(f"revoked {credential_id}")


def _in_store(home: Path | None, store: str, work: Callable[[Connection], T]) -> T:
    from lab_server.store.beside import beside_the_server

    settings = load({"home": home, "store": store or None}).settings
    return beside_the_server(settings.store_url, work)

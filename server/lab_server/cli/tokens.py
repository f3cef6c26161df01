"""`lab-server tokens`: make, list and revoke bearer tokens."""

from __future__ import annotations

import contextlib
import datetime
import time
from pathlib import Path
from typing import Annotated

import typer

from lab_core.errors import SettingsError
from lab_server.cli.exit_codes import errors_as_exit_codes
from lab_server.model.roles import Role
from lab_server.settings.loading import load

app = typer.Typer(help="Create, list and revoke bearer tokens.", no_args_is_help=True)

_MAX_NAME_CHARS = 100
_MAX_DAYS = 36_500.0

File = Annotated[
    Path | None,
    typer.Option("--tokens", help="token file (env LAB_TOKENS; default: tokens.json in LAB_HOME)"),
]


@app.command("create")
def create(
    name: Annotated[
        str, typer.Argument(help="the token's principal, who owns the runs it creates")
    ],
    role: Annotated[str, typer.Option(help="viewer, operator or admin")] = "operator",
    expires_days: Annotated[
        float, typer.Option(min=0, max=_MAX_DAYS, help="days until it expires; 0: never")
    ] = 0.0,
    file: File = None,
) -> None:
    """Create a token and print it. It is shown only once."""
    from lab_server.security.tokens import TokenFile

    with errors_as_exit_codes():
        if not name.isprintable() or not 0 < len(name.strip()) <= _MAX_NAME_CHARS:
            raise SettingsError(f"a name must have 1 to {_MAX_NAME_CHARS} printable characters")
        if role not in ("viewer", "operator", "admin"):
            raise SettingsError(f"the role must be viewer, operator or admin, got {role!r}")
        expire_time = time.time() + expires_days * 86400 if expires_days else 0.0
        path = _path(file)
        token = TokenFile(path).create(name.strip(), Role[role.upper()], expire_time)
    typer.echo(token)
    typer.echo(f"stored hashed in {path}; serve with: lab-server serve --tokens {path}", err=True)


@app.command("create-join")
def create_join(
    pool: Annotated[
        str, typer.Option(help="pool of the agent that joins by it; empty: the agent says it")
    ] = "",
    expires_days: Annotated[
        float, typer.Option(min=0, max=_MAX_DAYS, help="days until it expires; 0: never")
    ] = 1.0,
    file: File = None,
) -> None:
    """Create a join token, by which one agent can join once, and print it."""
    from lab_server.model.agent import NAME
    from lab_server.security.tokens import TokenFile

    with errors_as_exit_codes():
        if pool and not NAME.fullmatch(pool):
            raise SettingsError(f"--pool {pool!r}: use up to 63 letters, digits, '-', '_' and '.'")
        expire_time = time.time() + expires_days * 86400 if expires_days else 0.0
        path = _path(file)
        token = TokenFile(path).create("agent", Role.JOIN, expire_time, pool)
    typer.echo(token)
    typer.echo("use it once: lab-agent join HOST:PORT --token TOKEN", err=True)


@app.command("list")
def list_all(file: File = None) -> None:
    """List the tokens, without their secrets.

    A join token that was used shows by which agent. It goes with the next token that is created, a day after its
    own creation; so do those that expired or were revoked.
    """
    from lab_server.security.tokens import TokenFile

    with errors_as_exit_codes():
        found = TokenFile(_path(file)).read().values()
        agents = _agents() if any(token.role == "join" for token in found) else {}
    typer.echo(f"{'id':<10}{'role':<10}{'expires':<12}{'state':<10}name")
    for token in found:
        end = token.expire_time
        expires = datetime.datetime.fromtimestamp(end, datetime.UTC).date() if end else "never"
        state = "valid"
        if token.is_revoked:
            state = "revoked"
        elif token.used_by or token.id in agents:
            state = "used"
        elif token.is_expired(time.time()):
            state = "expired"
        name = agents.get(token.id, token.name)
        typer.echo(f"{token.id:<10}{token.role:<10}{expires!s:<12}{state:<10}{name}")


@app.command("revoke")
def revoke(
    token_id: Annotated[str, typer.Argument(help="the id that `list` shows")], file: File = None
) -> None:
    """Revoke a token; running servers refuse it at once."""
    from lab_server.security.tokens import TokenFile

    with errors_as_exit_codes():
        if not TokenFile(_path(file)).revoke(token_id):
            raise SettingsError(f"there is no token {token_id!r}; see `lab-server tokens list`")
    typer.echo(f"revoked {token_id}")


def _agents() -> dict[str, str]:
    """Return the agents that have joined by tokens, as the store has them; none if there is no store yet."""
    from lab_server.errors import StoreRefused
    from lab_server.store.agent_table import used_by
    from lab_server.store.beside import beside_the_server

    with contextlib.suppress(StoreRefused):
        return beside_the_server(load().settings.store_url, used_by)
    return {}


def _path(file: Path | None) -> Path:
    settings = load().settings
    return file or settings.tokens or settings.home / "tokens.json"

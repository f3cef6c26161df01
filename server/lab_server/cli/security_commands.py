"""`lab-server tokens` and `lab-server certs`."""

from __future__ import annotations

import contextlib
import datetime
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from lab_core.errors import SettingsError
from lab_server.model.roles import Role
from lab_server.settings.settings import load

tokens = typer.Typer(help="Bearer tokens, stored hashed.", no_args_is_help=True)
certs = typer.Typer(help="Certificates of your own.", no_args_is_help=True)

_MAX_NAME_CHARS = 100
_MAX_DAYS = 36_500.0

File = Annotated[
    Path | None,
    typer.Option("--tokens", help="the file (env LAB_TOKENS; else tokens.json in LAB_HOME)"),
]


@tokens.command("create")
def create_token(
    name: Annotated[str, typer.Argument(help="who it is for: the owner of the runs made with it")],
    role: Annotated[str, typer.Option(help="viewer, operator or admin")] = "operator",
    expires_days: Annotated[float, typer.Option(min=0, max=_MAX_DAYS, help="0: never")] = 0.0,
    file: File = None,
) -> None:
    """Make a token and print it, this one time."""
    with _sentences():
        if not name.isprintable() or not 0 < len(name.strip()) <= _MAX_NAME_CHARS:
            raise SettingsError(f"a name has 1 to {_MAX_NAME_CHARS} printable characters")
        if role.upper() not in Role.__members__:
            raise SettingsError(f"roles are viewer, operator and admin, not {role!r}")
        expire_time = time.time() + expires_days * 86400 if expires_days else 0.0
        path = _path(file)
        from lab_server.security.tokens import TokenFile

        token = TokenFile(path).create(name.strip(), Role[role.upper()], expire_time)
    typer.echo(token)
    typer.echo(f"stored hashed in {path}; serve with: lab-server serve --tokens {path}", err=True)


@tokens.command("list")
def list_tokens(file: File = None) -> None:
    """List the tokens, without their secrets."""
    from lab_server.security.tokens import TokenFile

    with _sentences():
        found = TokenFile(_path(file)).read().values()
    typer.echo(f"{'id':<10}{'role':<10}{'expires':<12}{'state':<10}name")
    for token in found:
        end = token.expire_time
        expires = datetime.datetime.fromtimestamp(end, datetime.UTC).date() if end else "never"
        state = "valid"
        if token.is_revoked:
            state = "revoked"
        elif token.is_expired(time.time()):
            state = "expired"
        typer.echo(f"{token.id:<10}{token.role:<10}{expires!s:<12}{state:<10}{token.name}")


@tokens.command("revoke")
def revoke_token(
    token_id: Annotated[str, typer.Argument(help="as `list` shows it")], file: File = None
) -> None:
    """Make a token invalid; servers that run notice at once."""
    from lab_server.security.tokens import TokenFile

    with _sentences():
        if not TokenFile(_path(file)).revoke(token_id):
            raise SettingsError(f"there is no token {token_id!r}; see `lab-server tokens list`")
    typer.echo(f"revoked {token_id}")


@certs.command("init")
def init_certs(
    folder: Annotated[
        Path | None, typer.Option("--dir", help="where to (default: certs in LAB_HOME)")
    ] = None,
    host: Annotated[
        list[str] | None,
        typer.Option(help="name or address by which clients reach the server; say it for each"),
    ] = None,
    client: Annotated[
        list[str] | None, typer.Option(help="also a certificate for a client of this name (mTLS)")
    ] = None,
    days: Annotated[float, typer.Option(max=3650.0, help="how long they are valid")] = 365.0,
) -> None:
    """Make a CA, or take the one that is there, and certificates of it; call it again to renew."""
    from lab_server.security.certs import Authority, write_pair

    hosts = host or ["localhost", "127.0.0.1", "::1", socket.gethostname()]
    with _sentences():
        where = folder or load().settings.home / "certs"
        for name in client or ():
            if not name.isidentifier() and not name.replace("-", "").replace(".", "").isalnum():
                raise SettingsError(
                    f"{name!r} cannot be the name of a file; use letters and digits"
                )
            if name in ("ca", "server"):
                raise SettingsError(f"a client cannot be called {name!r} here")
        try:
            authority = Authority.of_folder(where)
            cert, key = write_pair(where, "server", *authority.server(hosts, days))
            for name in client or ():
                write_pair(where, name, *authority.client(name, days))
        except OSError as error:
            raise SettingsError(f"cannot write to {where}: {error.strerror}") from None
    typer.echo(f"CA for clients: {where / 'ca.crt'}")
    typer.echo(f"server, reached as {', '.join(hosts)}: {cert}")
    for name in client or ():
        typer.echo(f"client {name}: {where / name}.crt, {where / name}.key")
    typer.echo(f"serve with: lab-server serve --tls-cert {cert} --tls-key {key}", err=True)


def _path(file: Path | None) -> Path:
    settings = load().settings
    return file or settings.tokens or settings.home / "tokens.json"


@contextlib.contextmanager
def _sentences() -> Iterator[None]:
    try:
        yield
    except SettingsError as error:
        typer.echo(f"lab-server: {error}", err=True)
        raise typer.Exit(2) from None

"""`lab-server certs`: a CA of your own, and certificates that it signs."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated

import typer

from lab_core.errors import SettingsError
from lab_server.cli.exit_codes import errors_as_exit_codes
from lab_server.settings.loading import load

app = typer.Typer(help="Create a CA of your own and certificates.", no_args_is_help=True)


@app.command("init")
def init(
    folder: Annotated[
        Path | None, typer.Option("--dir", help="target folder (default: certs in LAB_HOME)")
    ] = None,
    host: Annotated[
        list[str] | None,
        typer.Option(help="host name or IP address of the server; repeat for several"),
    ] = None,
    client: Annotated[
        list[str] | None,
        typer.Option(help="also create a client certificate of this name, for mTLS; repeatable"),
    ] = None,
    days: Annotated[float, typer.Option(max=3650.0, help="days until they expire")] = 365.0,
) -> None:
    """Create a CA, or reuse the folder's, and certificates signed by it; run it again to renew."""
    from lab_server.security.certs import Authority, write_pair

    hosts = host or ["localhost", "127.0.0.1", "::1", socket.gethostname()]
    clients = client or []
    with errors_as_exit_codes():
        target = folder or load().settings.home / "certs"
        for name in clients:
            _check_client_name(name)
        try:
            authority = Authority.of_folder(target)
            cert, key = write_pair(target, "server", *authority.server(hosts, days))
            for name in clients:
                write_pair(target, name, *authority.client(name, days))
        except OSError as error:
            raise SettingsError(f"cannot write to {target}: {error.strerror}") from None
    typer.echo(f"CA for clients: {target / 'ca.crt'}")
    typer.echo(f"server certificate for {', '.join(hosts)}: {cert}")
    for name in clients:
        typer.echo(f"client certificate for {name}: {target / name}.crt, key {target / name}.key")
    typer.echo(f"serve with: lab-server serve --tls-cert {cert} --tls-key {key}", err=True)


def _check_client_name(name: str) -> None:
    # it becomes a file's name
    if not name.isidentifier() and not name.replace("-", "").replace(".", "").isalnum():
        raise SettingsError(
            f"a client's name may have letters, digits, '-', '.' and '_', got {name!r}"
        )
    if name in ("ca", "server"):
        raise SettingsError(
            f"a client cannot be named {name!r}: the files {name}.crt and .key exist"
        )

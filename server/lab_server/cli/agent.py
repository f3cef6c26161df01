"""The command `lab-agent`."""

from __future__ import annotations

import socket
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import platformdirs
import typer

from lab_core.errors import SettingsError
from lab_server.cli.exit_codes import errors_as_exit_codes

app = typer.Typer(
    name="lab-agent",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    rich_markup_mode=None,  # its boxes cut flags where there is little room
    add_completion=False,
    pretty_exceptions_enable=False,
)


class OnShutdown(StrEnum):
    """What becomes of trainers when the agent is stopped."""

    STOP = "stop"
    LEAVE = "leave"


@app.command("join")
def join(
    server: Annotated[str, typer.Argument(help="HOST:PORT of the server; several with commas")],
    token: Annotated[
        str,
        typer.Option(
            envvar="LAB_JOIN_TOKEN",
            help="join token of `lab-server tokens create-join`, needed once, where the server has tokens",
        ),
    ] = "",
    name: Annotated[
        str, typer.Option(help="name, unique on the server (default: the host's name)")
    ] = "",
    pool: Annotated[str, typer.Option(help="pool, where the token does not say it")] = "",
    slots: Annotated[
        str,
        typer.Option(
            help="slots: cpu:N or cuda:0,cuda:1*2 (default: every GPU, else one CPU slot)"
        ),
    ] = "",
    experiments: Annotated[
        list[str] | None,
        typer.Option(
            help="module or file with experiments, as of the server; several: repeat it, or separate them by commas"
        ),
    ] = None,
    home: Annotated[
        Path | None, typer.Option(help="folder of the agent (default: in the user's data folder)")
    ] = None,
    ca: Annotated[Path | None, typer.Option(help="CA of the server's certificate, PEM")] = None,
    cert: Annotated[Path | None, typer.Option(help="client certificate for mTLS, PEM")] = None,
    key: Annotated[Path | None, typer.Option(help="key of that certificate, PEM")] = None,
    tls: Annotated[
        bool, typer.Option("--tls", help="use TLS with the system's CAs; --ca implies it")
    ] = False,
    on_shutdown: Annotated[
        OnShutdown,
        typer.Option(
            help="when the agent is stopped, stop its trainers, or leave them to the next"
        ),
    ] = OnShutdown.STOP,
    allow_uploads: Annotated[
        bool,
        typer.Option(
            "--allow-uploads",
            help="run code that clients send to the server, which must allow it, too",
        ),
    ] = False,
    ephemeral: Annotated[
        bool,
        typer.Option(
            "--ephemeral",
            help="for jobs of Ray, Slurm and the like: a temporary home, trainers that die with the agent,"
            " and an agent that ends with the process that started it",
        ),
    ] = False,
    log_level: Annotated[str, typer.Option(help="minimum log level")] = "info",
) -> None:
    """Join a server, and run trainers for it until SIGTERM or SIGINT."""
    from lab_server import logs
    from lab_server.agent.options import Options
    from lab_server.agent.run import run
    from lab_server.agent.servers import GivenServers
    from lab_server.executors.gpus import default_slots, missing_gpus
    from lab_server.model.agent import NAME
    from lab_server.model.slot import parse_slots
    from lab_server.model.sources import missing_source
    from lab_server.settings.address import Address
    from lab_server.settings.lists import split_at_commas

    with errors_as_exit_codes("lab-agent"):
        addresses = [part.strip() for part in server.split(",")]
        sources = split_at_commas(*(experiments or ()))
        for address in addresses:
            try:
                Address.parse(address)
            except ValueError as error:
                raise SettingsError(str(error)) from None
        chosen = parse_slots(slots or default_slots())
        problems = [f"--slots {missing}"] if (missing := missing_gpus(chosen)) else []
        problems += [] if chosen else ["--slots none leaves an agent nothing to do"]
        problems += [
            f"--experiments names {source}, but {gone}"
            for source in sources
            if (gone := missing_source(source))
        ]
        called = name or socket.gethostname()
        if not NAME.fullmatch(called):
            problems.append(f"--name {called!r}: use up to 63 letters, digits, '-', '_' and '.'")
        if (cert is None) != (key is None):
            problems.append("--cert and --key belong together")
        if ephemeral and (home or on_shutdown is OnShutdown.LEAVE):
            problems.append("--ephemeral excludes --home and --on-shutdown leave")
        if problems:
            raise SettingsError("\n".join(problems))
        folder = home or platformdirs.user_data_path("lab-train") / "agents" / called
        if ephemeral:
            folder = Path(tempfile.mkdtemp(prefix=f"lab-agent-{called}-"))
        logs.set_up("auto", log_level)
        run(
            Options(
                servers=GivenServers(addresses),
                name=called,
                pool=pool,
                token=token,
                slots=chosen,
                experiments=sources,
                home=folder.expanduser().absolute(),
                tls_files=(ca, cert, key) if tls or ca or cert else None,
                on_shutdown=on_shutdown.value,
                is_ephemeral=ephemeral,
                takes_uploads=allow_uploads,
            )
        )


@app.command("host", hidden=True)
def host() -> None:
    """Run trainers in the slots of the server that started this; options come as JSON on stdin."""
    import json
    import sys

    from lab_server import logs
    from lab_server.agent.host import HostOptions, run_host

    with errors_as_exit_codes("lab-agent"):
        options = HostOptions(**json.load(sys.stdin))
        logs.set_up(options.log_format, options.log_level)
        run_host(options)


@app.callback()
def _main() -> None:
    """Run trainers on this machine for a lab-server on another."""


if __name__ == "__main__":  # as a server starts it
    app(prog_name="lab-agent")

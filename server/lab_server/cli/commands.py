"""The subcommands of `lab-server`; `serve` and `config` get their flags from the settings."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from inspect import getdoc
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from lab_server.cli import agents, certs, reload, tokens
from lab_server.cli.exit_codes import errors_as_exit_codes
from lab_server.settings.lists import split_at_commas
from lab_server.settings.loading import Loaded, load
from lab_server.settings.settings import Settings

app = typer.Typer(
    name="lab-server",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    rich_markup_mode=None,  # its boxes cut flags where there is little room
    add_completion=False,
    pretty_exceptions_enable=False,
)


_FILE_ONLY = ("pools",)


def _with_settings(command: Callable[[Loaded], None]) -> Callable[..., None]:
    """Return the command with one flag per setting, so that settings are declared only once."""

    def run(config: Path | None, **flags: Any) -> None:
        with errors_as_exit_codes():
            command(load({name: _plain(value) for name, value in flags.items()}, config))

    file = typer.Option(
        help="TOML file of settings, and of [[pools]] (env LAB_CONFIG)", show_default=False
    )
    parameters = [_keyword("config", Annotated[Path | None, file])]
    for name, field in Settings.model_fields.items():
        if name in _FILE_ONLY:
            continue
        flag = f"--{name.replace('_', '-')}"
        kind = field.annotation
        if kind is bool:
            flag += f"/--no-{name.replace('_', '-')}"
        option = typer.Option(flag, help=_help(name), show_default=False, metavar=_metavar(kind))
        parameters.append(_keyword(name, Annotated[_flag_type(kind), option]))
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__name__ = command.__name__
    run.__doc__ = command.__doc__
    return run


def _keyword(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )


def _flag_type(kind: Any) -> Any:
    """Return the type that typer parses; numbers stay text, since the settings validate them."""
    if kind is bool:
        return bool | None
    return list[str] | None if kind == tuple[str, ...] else str | None


def _metavar(kind: Any) -> str | None:
    """Return what a flag takes, where it is not just any text, as typer is told."""
    return f"<{kind.__name__}>" if kind in (int, float) else None


def _plain(value: Any) -> Any:
    """Return a flag's value, None for a list flag that was not given."""
    return (split_at_commas(*value) or None) if isinstance(value, list) else value


def _help(name: str) -> str:
    field = Settings.model_fields[name]
    default = field.get_default(call_default_factory=True)
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    told = (
        "" if all(one in str(field.description) for one in choices) else f": {', '.join(choices)}"
    )
    if field.annotation == tuple[str, ...]:
        told += "; several: repeat it, or separate them by commas"
    is_nothing = default is None or default is False or default in ("", ())
    tail = "" if is_nothing else f" [default: {default}]"
    return f"{field.description}{told}{tail}"


@app.command(name="serve")
@_with_settings
def serve(loaded: Loaded) -> None:
    """Serve until SIGTERM or SIGINT."""
    from lab_server.app.serve import run

    run(loaded)


@app.command(name="config")
@_with_settings
def config(loaded: Loaded) -> None:
    """Print the effective settings as TOML, each with its origin."""
    import json

    from lab_server.executors import thread_wait
    from lab_server.executors.gpus import default_slots
    from lab_server.model.slot import parse_slots

    values = loaded.settings.model_dump(mode="json") | {"store": loaded.settings.store_place}
    width = max(map(len, values))
    for name, value in values.items():
        if name in _FILE_ONLY:
            for each in value:
                typer.echo(f"# [[{name}]] {json.dumps(each, ensure_ascii=False)}")
            continue
        # TOML has no null, and JSON's escapes of what is not ASCII are not TOML's
        text = "" if value is None else json.dumps(value, ensure_ascii=False)
        line = f"{name:<{width}} = {text}  # {loaded.origins[name]}"
        if name == "thread_wait":
            slots = parse_slots(loaded.settings.slots or default_slots())
            line += ": {}, {}".format(*thread_wait.resolve(loaded.settings.thread_wait, len(slots)))
        typer.echo(f"# {line}" if value is None else line)
    for warning in loaded.warnings:
        typer.echo(f"lab-server: {warning}", err=True)


@app.command(name="backup")
def backup(
    target: Annotated[Path, typer.Argument(help="a new or empty folder")],
    home: Annotated[Path | None, typer.Option(help="folder to copy (env LAB_HOME)")] = None,
) -> None:
    """Copy LAB_HOME, even while a server is running; restore with `serve --home COPY`."""
    from lab_server.app.backup import back_up

    with errors_as_exit_codes():
        settings = load({"home": home}).settings
        back_up(settings.home, target.absolute(), has_database=not settings.store)
        if settings.store:
            typer.echo(
                f"lab-server: copied the files; copy the store with pg_dump {settings.store_place}"
                " as well, and before the files",
                err=True,
            )


@app.command(name="migrate")
def migrate(
    target: Annotated[str, typer.Option("--to", help="URL of an empty database")],
    source: Annotated[
        str,
        typer.Option("--from", help="URL of the store; empty: SQLite in home", show_default=False),
    ] = "",
    home: Annotated[Path | None, typer.Option(help="folder of the server (env LAB_HOME)")] = None,
) -> None:
    """Copy the store to another database and verify it; no server may use either.

    The source stays as it is. The runs' files stay in the home: start the server there with --store.
    """
    from lab_server.cli.migrate import migrate

    with errors_as_exit_codes():
        in_home = load({"home": home}).settings.home / "lab.db"
        migrate(source or f"sqlite:///{in_home}", target)


app.command(name="reload")(reload.reload)
app.add_typer(tokens.app, name="tokens")
app.add_typer(agents.app, name="agents")
app.add_typer(certs.app, name="certs")


@app.command(name="version")
def version() -> None:
    """Show the version."""
    import lab_server

    typer.echo(f"lab-server {lab_server.__version__} (Python {sys.version.split()[0]})")


def _print_version(is_asked: bool) -> None:
    if is_asked:
        version()
        raise typer.Exit


@app.callback()
def _main(
    is_version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Run training experiments for clients and record everything they report."""


for _part in (app, tokens.app, agents.app, certs.app):
    for _command in _part.registered_commands:  # the whole line: what is made without this is cut
        _command.short_help = (getdoc(_command.callback) or "").partition("\n")[0]

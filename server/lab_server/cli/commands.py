"""The subcommands of `lab-server`; flags of `serve` and `config` are made from the settings."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from lab_core.errors import LabError, SettingsError
from lab_server.cli.security_commands import certs, tokens
from lab_server.settings.settings import Loaded, Settings, load

app = typer.Typer(
    name="lab-server",
    help="Train experiments for clients, and keep everything that they say.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
    pretty_exceptions_enable=False,
)

_EXIT_FAILED = 1
_EXIT_USAGE = 2


def _with_settings(command: Callable[[Loaded], None]) -> Callable[..., None]:
    """Return the command with a flag for each setting, so that the settings are declared once."""

    def run(config: Path | None, **flags: Any) -> None:
        try:
            command(load({name: _plain(value) for name, value in flags.items()}, config))
        except SettingsError as error:
            typer.echo(f"lab-server: {error}", err=True)
            raise typer.Exit(_EXIT_USAGE) from None
        except LabError as error:
            typer.echo(f"lab-server: {error}", err=True)
            raise typer.Exit(_EXIT_FAILED) from None

    file = typer.Option(help="TOML file of settings (env LAB_CONFIG)", show_default=False)
    parameters = [_keyword("config", Annotated[Path | None, file])]
    for name, field in Settings.model_fields.items():
        flag = f"--{name.replace('_', '-')}"
        kind = field.annotation
        if kind is bool:
            flag += f"/--no-{name.replace('_', '-')}"
        option = typer.Option(flag, help=_help(name), show_default=False)
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
    """Return what typer parses; numbers stay text, so that one place says what is wrong with them."""
    if kind is bool:
        return bool | None
    return list[str] | None if kind == tuple[str, ...] else str | None


def _plain(value: Any) -> Any:
    """Return what a flag says; a list that was not given is nothing."""
    return (tuple(value) or None) if isinstance(value, list) else value


def _help(name: str) -> str:
    field = Settings.model_fields[name]
    default = field.get_default(call_default_factory=True)
    tail = "" if default in (None, "", (), False) else f" [default: {default}]"
    return f"{field.description}{tail}".replace("[", r"\[")


@app.command(name="serve")
@_with_settings
def serve(loaded: Loaded) -> None:
    """Serve until SIGTERM or SIGINT."""
    from lab_server.app.serve import run

    run(loaded)


@app.command(name="config")
@_with_settings
def config(loaded: Loaded) -> None:
    """Print the effective settings as TOML, with where each comes from."""
    import json

    values = loaded.settings.model_dump(mode="json")
    width = max(map(len, values))
    for name, value in values.items():
        # TOML has no null, and JSON's escapes of what is not ASCII are not TOML's
        text = "" if value is None else json.dumps(value, ensure_ascii=False)
        line = f"{name:<{width}} = {text}  # {loaded.origins[name]}"
        typer.echo(f"# {line}" if value is None else line)
    for warning in loaded.warnings:
        typer.echo(f"lab-server: {warning}", err=True)


@app.command(name="backup")
def backup(
    target: Annotated[Path, typer.Argument(help="a new folder, or an empty one")],
    home: Annotated[Path | None, typer.Option(help="what to copy (env LAB_HOME)")] = None,
) -> None:
    """Copy LAB_HOME, also while a server runs; `serve --home COPY` is the restore."""
    from lab_server.files.backup import back_up

    try:
        back_up(load({"home": home}).settings.home, target.absolute())
    except SettingsError as error:
        typer.echo(f"lab-server: {error}", err=True)
        raise typer.Exit(_EXIT_USAGE) from None


app.add_typer(tokens, name="tokens")
app.add_typer(certs, name="certs")


@app.command(name="version")
def version() -> None:
    """Print the version."""
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
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Train experiments for clients, and keep everything that they say."""

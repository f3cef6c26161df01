"""What all commands share: the connection, the console, JSON, and exit codes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from lab_client import errors
from lab_client.metric_names import main_names
from lab_client.runs import RunInfo
from lab_client.sync.client import Client
from lab_client.transport.target import Target, make_target, token_warning

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NO_CONNECTION = 3
EXIT_STOPPED = 4
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it

_NO_CONNECTION = (
    errors.Unavailable,
    errors.DeadlineExceeded,
    errors.IncompatibleServer,
    errors.Unauthenticated,
    errors.ConnectionSettingsError,
)
_FAILED = (
    errors.RunFailed,
    errors.ResourceExhausted,
    errors.ServerError,
    errors.EventGap,
    errors.DownloadError,
)

ShowAll = Annotated[
    bool, typer.Option("--all", help="Include the indicators of single parameters.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@dataclass(frozen=True, slots=True)
class Settings:
    """How to reach the server, as the command line says."""

    server: str | None = None
    token: str | None = dataclasses.field(default=None, repr=False)
    tls: bool | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def target(self) -> Target:
        """Return where the server is and how to prove who asks."""
        return make_target(
            self.server, token=self.token, tls=self.tls, ca=self.ca, cert=self.cert, key=self.key
        )

    def open(self, **limits: Any) -> Client:
        """Return a client of the server."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", errors.UnencryptedToken)  # `connect` says it
            return Client(
                self.server,
                token=self.token,
                tls=self.tls,
                ca=self.ca,
                cert=self.cert,
                key=self.key,
                **limits,
            )


def connect(context: typer.Context, **limits: Any) -> Client:
    """Return a client for a command, closed at its end."""
    settings: Settings = context.obj or Settings()
    client = settings.open(**limits)
    context.call_on_close(client.close)
    if warning := token_warning(settings.target()):
        typer.echo(f"lab: warning: {warning}", err=True)
    return client


class ErrorGroup(TyperGroup):
    """Prints the sentence of an error, without a traceback, and exits with its code."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except errors.LabError as error:
            typer.echo(f"lab: {_sentence(error)}", err=True)
            raise typer.Exit(exit_code(error)) from None
        except KeyboardInterrupt:
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except BrokenPipeError:  # the reader of a pipe has gone, as `head` does
            sys.stderr.close()
            raise typer.Exit(0) from None
        except OSError as error:  # a folder that cannot be written, say
            where = f"{error.filename}: " if error.filename else ""
            typer.echo(f"lab: {where}{error.strerror or error}", err=True)
            raise typer.Exit(EXIT_FAILED) from None
        except Exception as error:  # typer has its own "no such option", in older versions click's
            option = getattr(error, "option_name", "")
            if isinstance(error, typer.BadParameter) or option not in self._own_options():
                raise
            words = f"{option} comes before the command: lab {option} … {ctx.invoked_subcommand}"
            raise typer.BadParameter(words) from None

    def _own_options(self) -> set[str]:
        return {option for item in self.params for option in item.opts if option.startswith("-")}


def _sentence(error: errors.LabError) -> str:
    if isinstance(error, errors.InvalidRequest) and len(error.violations) > 1:
        lines = "".join(f"\n  - {violation}" for violation in error.violations)
        return f"{len(error.violations)} things are wrong:{lines}"
    return str(error)


def exit_code(error: errors.LabError) -> int:
    """Return the exit code that tells what kind of error it was."""
    if isinstance(error, _NO_CONNECTION):
        return EXIT_NO_CONNECTION
    return EXIT_FAILED if isinstance(error, _FAILED) else EXIT_USAGE


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Let the command end as it does after any other print."""
        raise BrokenPipeError


def console() -> Console:
    """Return a console for standard output, as wide as needed where it is not a terminal."""
    wide = None if sys.stdout.isatty() else 100_000
    # no markup: in list[int] it takes [int] for a style
    return _Console(width=wide, highlight=False, soft_wrap=False, markup=False, emoji=False)


def has_colours() -> bool:
    """Whether what is printed may be coloured: not with NO_COLOR, or where there is no terminal."""
    out = console()
    return out.color_system is not None and not out.no_color


def print_json(value: Any, *, one_line: bool = False) -> None:
    """Print a value as JSON; what JSON has no number for is text: "nan", "inf", "-inf"."""
    typer.echo(json.dumps(plain(value), indent=None if one_line else 2, ensure_ascii=False))


def with_main_metrics(info: RunInfo, show_all: bool = False) -> RunInfo:
    """Return the run without the indicators of single parameters, unless all are to be shown."""
    if show_all:
        return info
    metrics = {name: info.metrics[name] for name in main_names(info.metrics)}
    ranges = {name: info.metric_ranges[name] for name in metrics if name in info.metric_ranges}
    return dataclasses.replace(info, metrics=metrics, metric_ranges=ranges)


@contextlib.contextmanager
def told_warnings() -> Iterator[None]:
    """Print what the client warns of in a sentence of the command's own."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", errors.UnknownName)
        yield
    for warning in caught:
        typer.echo(f"lab: {warning.message}", err=True)


def tell_hidden(num_hidden: int, option: str = "--all") -> None:
    """Say on stderr that something was left out, where the output itself has no room for it."""
    if num_hidden:
        noun = "metric" if num_hidden == 1 else "metrics"
        what = f"{num_hidden} {noun} of single parameters or of the machine's use"
        typer.echo(f"lab: {what} left out; include with {option}", err=True)


def plain(value: Any) -> Any:
    """Return a value as what JSON knows."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, str | int | float | bool | None):
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [plain(item) for item in value]
    return str(value)

"""Errors as one line on stderr and an exit code, the same for every command."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import typer

from lab_core.errors import LabError, SettingsError
from lab_server.descriptors import is_shortage

EXIT_FAILED = 1
EXIT_USAGE = 2


@contextlib.contextmanager
def errors_as_exit_codes(command: str = "lab-server") -> Iterator[None]:
    """Print an error of ours and exit: 2 for a wrong setting or argument, else 1."""
    try:
        yield
    except LabError as error:
        typer.echo(f"{command}: {error}", err=True)
        raise typer.Exit(EXIT_USAGE if isinstance(error, SettingsError) else EXIT_FAILED) from None
    except OSError as error:
        if not is_shortage(error):
            raise
        typer.echo(f"{command}: no file descriptors are left; see ulimit -n", err=True)
        raise typer.Exit(EXIT_FAILED) from None

"""The commands `lab-server` and `lab-agent`. Imports nothing beyond Python itself, to say what is not installed."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import sys

# One module of each package that [server] brings and the thin client has not.
_NEEDED = ("aiohttp", "pydantic_settings", "sqlalchemy", "structlog", "torch", "typer")


def main() -> None:
    """Run lab-server; without the [server] extra, say so in one line."""
    prepare("lab-server")
    from lab_server.cli.commands import app

    app(prog_name="lab-server")


def agent_main() -> None:
    """Run lab-agent; without the [server] extra, say so in one line."""
    prepare("lab-agent")
    from lab_server.cli.agent import app

    app(prog_name="lab-agent")


def prepare(command: str) -> None:
    """Say what is not installed, and make what is imported from here on cheap."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(
            f"{command} needs {', '.join(missing)}; install them with: pip install 'lab-train[server]'"
        )
    # Collecting while modules are imported finds nothing and costs a tenth of the start.
    gc.disable()
    _import_structlog_alone()


def _import_structlog_alone() -> None:
    """Import structlog as where rich is not installed: it would take four times as long.

    Only tracebacks drawn by rich need that, and our logs have plain ones.
    """
    if "rich" in sys.modules:
        return
    sys.modules["rich"] = None  # type: ignore[assignment]  # to import it fails
    try:
        importlib.import_module("structlog")
    finally:
        del sys.modules["rich"]

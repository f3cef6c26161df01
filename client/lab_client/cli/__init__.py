"""The `lab` command; needs the extra [cli]."""

from __future__ import annotations

import io
import os
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command; without the extra, say in one line what to install."""
    # gRPC's own log lines would stand between the user and the sentence that says what is wrong.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # where they are not UTF-8, a name may have what they have not
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        import rich  # noqa: F401
        import typer  # noqa: F401
    except ImportError:
        sys.stderr.write("lab: this command needs: pip install 'lab-train[cli]'\n")
        raise SystemExit(2) from None
    from lab_client.cli.app import app

    app(prog_name="lab")

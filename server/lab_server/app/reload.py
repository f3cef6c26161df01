"""How `lab-server reload` reaches the server of a home: by a file with its process, and a signal."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from lab_core.errors import SettingsError
from lab_server.processes import proc
from lab_server.processes.pid_file import read_pid_file, write_pid_file

RELOAD_SIGNAL = signal.SIGUSR1  # not SIGHUP: a terminal that is closed sends it


@contextlib.contextmanager
def named_in(home: Path) -> Iterator[None]:
    """Tell in the home which process its server is, while the context is open."""
    path = _pid_file(home)
    path.unlink(missing_ok=True)  # of a server that was killed
    me = proc.identify(os.getpid())
    assert me is not None, "/proc knows the process that reads it"
    write_pid_file(path, me)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def ask_to_reload(home: Path) -> int:
    """Ask the server of a home to load its experiments anew; return its process id.

    Raises:
        SettingsError: If no server runs on this home, or it is another user's.
    """
    server = read_pid_file(_pid_file(home))
    found = None if server is None else proc.stat(server.pid)
    if server is None or found is None or not proc.is_alive(server):
        raise SettingsError(f"no server runs on home={home} on this machine")
    try:
        proc.send_signal(found, RELOAD_SIGNAL)
    except PermissionError:
        raise SettingsError(
            f"the server on home={home} (process {server.pid}) is another user's"
        ) from None
    return server.pid


def _pid_file(home: Path) -> Path:
    return home / "server.pid"

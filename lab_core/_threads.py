"""Threads under their own names, as `top -H` and /proc show them."""

from __future__ import annotations

import contextlib
import sys
import threading
from pathlib import Path

_MAX_CHARS = 15  # what Linux keeps of it


def show_thread_name() -> None:
    """Show the calling thread to the system under its Python name, as Python does from 3.14 on."""
    if sys.platform != "linux" or threading.current_thread() is threading.main_thread():
        return
    comm = Path(f"/proc/self/task/{threading.get_native_id()}/comm")
    with contextlib.suppress(OSError):
        comm.write_text(threading.current_thread().name[:_MAX_CHARS])

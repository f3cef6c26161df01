"""A process that answers JSON lines, one after the other, and forks others; it stays fit to be forked.

Requests `{"id", "op", ...}` are answered `{"id", ...}` or `{"id", "error"}`. When a trainer ends, it sends
`{"exit": pid, "status": wait status}`; what is for the server's log, as `{"log", "level", ...}`.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from lab_server.model.run import TrainerProcess
from lab_server.processes import proc

EXIT_CRASHED = 70  # EX_SOFTWARE

_RETRY_S = 0.5


class LineServer:
    """Answers a request `op` by the method `_op_OP`, until the other end is closed or the server is gone.

    Args:
        connection: to the server.
        server: the server's process.
    """

    def __init__(self, connection: socket.socket, server: TrainerProcess) -> None:
        self._connection = connection
        self._server = server
        self._selector = selectors.DefaultSelector()
        self._pending = b""
        self._is_open = True
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)

    def log(self, level: str, event: str, **fields: object) -> None:
        """Have the server log a line."""
        self._send({"log": event, "level": level, **fields})

    def serve(self) -> None:
        """Answer requests; returns when there will be no more."""
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        self._selector.register(self._connection, selectors.EVENT_READ, self._receive)
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._reap)
        self._reap()
        while self._is_open:
            for key, _ in self._selector.select():
                key.data()

    def _read(self) -> bytes:
        return self._connection.recv(1 << 16)

    def _receive(self) -> None:
        data = self._read()
        # what a server asked for and did not live to see done is the next one's to ask for
        if not data or not self._is_server_alive():
            self._is_open = False
            return
        *lines, self._pending = (self._pending + data).split(b"\n")
        for line in lines:
            request = json.loads(line)
            try:
                getattr(self, f"_op_{request['op']}")(request)
            except Exception as error:
                run = {"run": request["spec"]["run_id"]} if "spec" in request else {}
                trace = traceback.format_exc()
                self.log("error", "a request failed", op=request["op"], exception=trace, **run)
                self._send({"id": request["id"], "error": f"{type(error).__name__}: {error}"})

    def _is_server_alive(self) -> bool:
        while True:
            try:
                return proc.is_alive(self._server)
            except OSError:  # there is no file descriptor to look with
                time.sleep(_RETRY_S)

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            self._is_open = False

    def _fork(self, run: Callable[[], int]) -> int:
        """Return the pid of a process that exits with what `run` returns."""
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            return pid
        code = EXIT_CRASHED
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            # the server must see this process's end, not that of the last one forked
            self._selector.close()
            self._connection.close()
            os.close(self._wake_read)
            os.close(self._wake_write)
            code = run()
        except BaseException:
            traceback.print_exc()
        finally:
            _exit(code)

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                self._note_exit(pid, status)

    def _note_exit(self, pid: int, status: int) -> None:
        """Take note that a child has ended."""
        raise NotImplementedError


def _exit(code: int) -> NoReturn:
    # No atexit: what is registered belongs to the process that forked this one.
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)

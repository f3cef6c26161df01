"""The process from which all others are forked: it has imported torch, and nothing of users.

The experiments are imported by *generations*, forked from it: an edit of an experiment costs a fork and
that experiment's own import. It must stay fit to be forked: no threads, no CUDA, no gRPC. It speaks JSON
lines with the server over a socket and ends when the server does; trainers go on. It is the subreaper of
all: what outlives its generation becomes its child, and it tells the server how that ended.

    {"op": "open", ...}, with a socket beside it: fork a generation that serves this socket

Run by `lab_server.executors`: python -m lab_server.trainer.forkserver --fd N --server-pid PID
"""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import signal
import socket
import sys
import traceback
from collections import deque
from collections.abc import Sequence
from typing import Any

from lab_core.provenance import is_installed
from lab_server.model.generation import GenerationSpec
from lab_server.model.run import TrainerProcess
from lab_server.processes import lineage, proc
from lab_server.processes.file_limit import set_limit
from lab_server.trainer.generation import Generation
from lab_server.trainer.line_server import LineServer

_PRELOAD = (
    "torch",
    "torch._dynamo",  # an optimizer's first step would import it, in every trainer
    "torchvision",
    "lab_core.experiment",
    "lab_core.helpers.training_loop",
    "lab_core.writers.sqlite",
    # of tensorboard: its first event would import them in every trainer
    "lab_core.writers.events",
    "lab_core.writers.records",
    "lab_core.helpers.pytorch.datasets.mnist",
    "lab_server.trainer.train",
    "yaml",  # writes the run's files
)


class ForkServer(LineServer):
    """Forks generations until the server is gone."""

    def __init__(self, connection: socket.socket, server: TrainerProcess) -> None:
        super().__init__(connection, server)
        self._generations: set[int] = set()
        self._received: deque[int] = deque()

    def _read(self) -> bytes:
        data, fds, _, _ = socket.recv_fds(self._connection, 1 << 16, 16)
        self._received.extend(fds)
        return data

    def _op_open(self, request: dict[str, Any]) -> None:
        """Fork a generation."""
        connection = socket.socket(fileno=self._received.popleft())
        spec = GenerationSpec.from_json(request["spec"])
        forkserver = os.getpid()

        def run() -> int:
            for fd in self._received:  # of requests that this process does not answer
                os.close(fd)
            Generation(connection, self._server, forkserver).run(spec)
            return 0

        self._generations.add(self._fork(run))
        connection.close()

    def _note_exit(self, pid: int, status: int) -> None:
        if pid in self._generations:
            self._generations.discard(pid)
        else:  # a trainer whose generation was replaced, or an orphan, which the server does not know
            self._send({"exit": pid, "status": status})


def _preload(modules: Sequence[str], server: ForkServer) -> None:
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception:
            trace = traceback.format_exc()
            server.log("error", "a module cannot be preloaded", module=name, exception=trace)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)  # a pool of threads would not survive the fork
        _warm_up(torch)


def _warm_up(torch: Any) -> None:
    """Do once what each trainer would do anew, of what stays in memory."""
    # where CUDA has not begun, torch keeps the stack of each seeding, and reads the sources for it
    torch.manual_seed(torch.initial_seed())
    mnist = sys.modules.get("lab_core.helpers.pytorch.datasets.mnist")
    if mnist is not None:
        mnist.load_mnist_5k()


def _warn_of_own_code(name: str, server: ForkServer) -> None:
    path = getattr(sys.modules.get(name), "__file__", None)
    if path is not None and not is_installed(path):
        server.log(
            "warning", "a preloaded module is not installed; its edits do nothing", module=name
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Import, then serve the socket that was inherited."""
    parser = argparse.ArgumentParser(prog="lab_server.trainer.forkserver")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--server-pid", type=int, required=True)
    parser.add_argument("--file-limit", type=int, default=0)
    parser.add_argument("--preload", default=",".join(_PRELOAD))
    parser.add_argument("--library", action="append", default=[])
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if options.file_limit:
        set_limit(options.file_limit)
    # not only by its socket: it looks there after its imports, and then it finds old requests first
    lineage.die_with_parent()
    owner = proc.identify(options.server_pid)
    if owner is None or os.getppid() != options.server_pid:
        return
    lineage.become_subreaper()
    server = ForkServer(socket.socket(fileno=options.fd), owner)
    _preload([*filter(None, options.preload.split(",")), *options.library], server)
    for name in options.library:
        _warn_of_own_code(name, server)
    gc.collect()
    gc.freeze()  # else the first collection in a generation would copy every page
    server.serve()


if __name__ == "__main__":
    main()

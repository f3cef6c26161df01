"""The process from which trainers are forked: it has imported everything, so that a run starts at once.

It must stay fit to be forked: no threads, no CUDA, no gRPC. It speaks JSON lines with the server over a
socket, ends when the server does, and leaves its trainers alone then. Orphans of trainers become its
children (it is their subreaper).

Requests `{"id", "op", ...}` are answered `{"id", ...}` or `{"id", "error"}`. When a trainer ends, it sends
`{"exit": pid, "status": wait status}`; what is for the server's log, as `{"log", "level", ...}`.

Run by `lab_server.executors`: python -m lab_server.trainer.forkserver --fd N --server-pid PID
[--experiments SOURCE]...
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from lab_core.errors import Violation
from lab_core.provenance import Code
from lab_server.model.launch import LaunchSpec
from lab_server.processes import lineage
from lab_server.trainer import setup
from lab_server.trainer.registry import Registered, find

_PRELOAD = (
    "torch",
    "torch._dynamo",  # an optimizer's first step would import it, in every trainer
    "torchvision",
    "lab_core.experiment",
    "lab_core.helpers.training_loop",
    "lab_core.writers.sqlite",
    "lab_core.writers.events",  # of tensorboard: its first event would import it in every trainer
    "lab_server.trainer.train",
    "yaml",  # writes the run's files
)
_CHECK_S = 30  # what an experiment's own checks may take
_TRIAL_S = 20  # less than what a client waits for an answer
_CLAIM_S = 30.0
_CLAIMED = b"1"
_EXIT_CRASHED = 70  # EX_SOFTWARE


class ForkServer:
    """Answers the server's requests, one after the other, until the server is gone."""

    def __init__(self, server: socket.socket, server_pid: int) -> None:
        self._server = server
        self._server_pid = server_pid
        self._experiments: dict[str, Registered] = {}
        self._trainers: set[int] = set()
        self._selector = selectors.DefaultSelector()
        self._pending = b""
        self._is_open = True
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)

    def log(self, level: str, event: str, **fields: object) -> None:
        """Have the server log a line."""
        self._send({"log": event, "level": level, **fields})

    def run(self, experiments: dict[str, Registered]) -> None:
        """Serve; returns when the server closed its end."""
        self._experiments = experiments
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        self._selector.register(self._server, selectors.EVENT_READ, self._receive)
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._reap)
        self._reap()
        while self._is_open:
            for key, _ in self._selector.select():
                key.data()

    def _receive(self) -> None:
        data = self._server.recv(1 << 16)
        # what a server asked for and did not live to see done is the next one's to ask for
        if not data or os.getppid() != self._server_pid:
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

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._server.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            self._is_open = False

    def _op_describe(self, request: dict[str, Any]) -> None:
        entries = [entry.to_json() for _, entry in sorted(self._experiments.items())]
        self._send({"id": request["id"], "experiments": entries})

    def _op_check(self, request: dict[str, Any]) -> None:
        """Run an experiment's checks in a fork: they are a user's code, and may do anything."""
        configs = self._configs(request["experiment"])

        def check() -> dict[str, Any]:
            from lab_core.configs import check

            return {"violations": _violations(check(configs, request["overrides"]))}

        self._work(request, check, "own checks", _CHECK_S)

    def _op_try_fork(self, request: dict[str, Any]) -> None:
        """See whether a fork's configs fit its checkpoint, in a process that may build what they ask for."""
        configs = self._configs(request["experiment"])

        def try_fork() -> dict[str, Any]:
            from lab_core.errors import CheckpointError, ConfigError
            from lab_core.experiment import try_fork

            setup.set_device("cpu", 1)
            step = request["step"]
            try:
                trial = try_fork(configs, request["overrides"], Path(request["checkpoints"]), step)
            except ConfigError as error:
                return {"violations": _violations(error.violations), "total_steps": None}
            except CheckpointError as error:
                return {"violations": [["parent", str(error)]], "total_steps": None}
            return {
                "violations": _violations(trial.violations),
                "total_steps": trial.total_steps,
            }

        self._work(request, try_fork, "trial as a fork", _TRIAL_S)

    def _work(
        self,
        request: dict[str, Any],
        work: Callable[[], dict[str, Any]],
        what: str,
        bound_s: int,
    ) -> None:
        """Answer a request with what `work` returns, computed in a fork of its own."""
        read_end, write_end = os.pipe()

        def answer() -> int:
            signal.alarm(bound_s)
            try:
                found = work()
            except BaseException:
                found = {"exception": traceback.format_exc()}
            with open(write_end, "w") as file:
                json.dump(found, file)
            return 0

        self._fork(answer)
        os.close(write_end)
        received: list[bytes] = []

        def receive() -> None:
            data = os.read(read_end, 1 << 16)
            if data:
                received.append(data)
                return
            self._selector.unregister(read_end)
            os.close(read_end)
            # nothing, or the half, comes from a process that was killed
            answer: dict[str, Any] = {}
            with contextlib.suppress(ValueError):
                answer = json.loads(b"".join(received))
            if "violations" in answer:
                self._send({"id": request["id"], **answer})
                return
            name = request["experiment"]
            self.log("error", f"an experiment's {what} crashed", experiment=name, **answer)
            self._send({"id": request["id"], "error": f"the experiment's {what} crashed"})

        self._selector.register(read_end, selectors.EVENT_READ, receive)

    def _op_launch(self, request: dict[str, Any]) -> None:
        """Fork a trainer; answered as soon as it has, or has not, claimed the attempt."""
        spec = LaunchSpec.from_json(request["spec"])
        configs, code = self._found(spec.experiment)
        read_end, write_end = os.pipe()

        def train() -> int:
            try:
                is_claimed = setup.claim(spec)
            except BaseException:
                os.write(write_end, traceback.format_exc().encode())
                return _EXIT_CRASHED
            if not is_claimed:
                return 0
            os.write(write_end, _CLAIMED)
            os.close(write_end)
            from lab_server.trainer.train import train

            return train(spec, configs, code)

        pid = self._fork(train)
        os.close(write_end)
        self._trainers.add(pid)
        with selectors.DefaultSelector() as selector, open(read_end, "rb", buffering=0) as file:
            selector.register(file, selectors.EVENT_READ)
            answer = file.read() if selector.select(_CLAIM_S) else b""
        if answer not in (_CLAIMED, b""):
            trace = answer.decode()
            self.log("error", "a trainer failed to start", run=spec.run_id, exception=trace)
        self._send({"id": request["id"]})

    def _configs(self, name: str) -> Any:
        return self._found(name)[0]

    def _found(self, name: str) -> tuple[Any, Code]:
        entry = self._experiments.get(name)
        if entry is None or entry.configs is None or entry.code is None:
            raise LookupError(entry.error if entry else f"there is no experiment {name!r}")
        return entry.configs, entry.code

    def _fork(self, run: Callable[[], int]) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            return pid
        code = _EXIT_CRASHED
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            # the server must see this process's end, not that of the last trainer
            self._selector.close()
            self._server.close()
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
                if pid in self._trainers:
                    self._trainers.discard(pid)
                    self._send({"exit": pid, "status": status})


def _violations(found: Iterable[Violation]) -> list[list[str]]:
    return [[violation.key, violation.message] for violation in found]


def _exit(code: int) -> NoReturn:
    # No atexit: what is registered belongs to the forkserver.
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


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


def main(arguments: Sequence[str] | None = None) -> None:
    """Import, then serve the socket that was inherited."""
    parser = argparse.ArgumentParser(prog="lab_server.trainer.forkserver")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--server-pid", type=int, required=True)
    parser.add_argument("--experiments", action="append", default=[])
    parser.add_argument("--preload", default=",".join(_PRELOAD))
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server = ForkServer(socket.socket(fileno=options.fd), options.server_pid)
    # not only by its socket: it looks there after its imports, and then it finds old requests first
    lineage.die_with_parent()
    lineage.become_subreaper()
    _preload([name for name in options.preload.split(",") if name], server)
    experiments = find(options.experiments)
    num_threads = len(os.listdir("/proc/self/task"))
    if num_threads > 1:
        server.log(
            "warning", "imports started threads, which trainers lack", threads=num_threads - 1
        )
    gc.collect()
    gc.freeze()  # else the first collection in a trainer would copy every page
    server.run(experiments)


if __name__ == "__main__":
    main()

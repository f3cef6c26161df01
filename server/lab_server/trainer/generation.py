"""A generation: a process that has imported the experiments as they are, and forks trainers.

Forked from the forkserver, which has imported torch; it must stay fit to be forked, as that one. It ends when
the server closes its socket, after an edit, say, and leaves its trainers to the forkserver then.

    {"op": "describe"}   the experiments, and the stamps of the files that they are made of
    {"op": "check"}      run an experiment's own checks
    {"op": "try_fork"}   see whether a fork's configs fit its checkpoint
    {"op": "launch"}     fork a trainer
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from lab_core.errors import Violation
from lab_server.files import stamps
from lab_server.model.generation import GenerationSpec
from lab_server.model.launch import LaunchSpec
from lab_server.model.run import TrainerProcess
from lab_server.model.sources import is_file
from lab_server.processes import lineage
from lab_server.trainer import setup
from lab_server.trainer.line_server import EXIT_CRASHED, LineServer
from lab_server.trainer.registry import Registered, find
from lab_server.trainer.snapshot import Snapshot

_CHECK_S = 30  # what an experiment's own checks may take
_TRIAL_S = 20  # less than what a client waits for an answer
_CLAIM_S = 30.0
_CLAIMED = b"1"


class Generation(LineServer):
    """Imports experiments and answers the server's requests about them, one after the other."""

    def __init__(self, connection: socket.socket, server: TrainerProcess, forkserver: int) -> None:
        super().__init__(connection, server)
        self._forkserver = forkserver
        self._snapshot = Snapshot()
        self._experiments: dict[str, Registered] = {}
        self._stamps: dict[str, stamps.Stamp] = {}
        self._trainers: set[int] = set()

    def run(self, spec: GenerationSpec) -> None:
        """Import, then serve; returns when the server closed its end."""
        lineage.die_with_parent()
        if os.getppid() != self._forkserver:
            return
        signal.alarm(spec.load_timeout_s)
        self._snapshot.install()
        if spec.folder:
            sys.path[:] = [spec.folder, *(p for p in sys.path if p not in ("", os.getcwd()))]
        self._experiments = find(
            spec.sources, self._snapshot, spec.has_entry_points, folder=spec.folder
        )
        self._stamps = dict(self._snapshot.stamps)
        if any(entry.configs is None for entry in self._experiments.values()):
            # what is missing may come: a file beside those that there are
            self._stamps |= {str(f): stamps.stamp(f) for f in _folders(spec, self._stamps)}
        signal.alarm(0)
        num_threads = len(os.listdir("/proc/self/task"))
        if num_threads > 1:
            self.log(
                "warning", "imports started threads, which trainers lack", threads=num_threads - 1
            )
        gc.collect()
        gc.freeze()  # else the first collection in a trainer would copy every page
        self.serve()

    def _op_describe(self, request: dict[str, Any]) -> None:
        entries = [entry.to_json() for _, entry in sorted(self._experiments.items())]
        files = {path: stamp.to_json() for path, stamp in self._stamps.items()}
        self._send({"id": request["id"], "experiments": entries, "files": files})

    def _op_check(self, request: dict[str, Any]) -> None:
        """Run an experiment's checks in a fork: they are a user's code, and may do anything."""
        entry = self._loaded(request["experiment"])

        def check() -> dict[str, Any]:
            from lab_core.configs import check

            return {"violations": _violations(check(entry.enter(), request["overrides"]))}

        self._work(request, check, "own checks", _CHECK_S)

    def _op_try_fork(self, request: dict[str, Any]) -> None:
        """See whether a fork's configs fit its checkpoint, in a process that may build what they ask for."""
        entry = self._loaded(request["experiment"])

        def try_fork() -> dict[str, Any]:
            from lab_core.errors import CheckpointError, ConfigError
            from lab_core.experiment import try_fork

            setup.set_device("cpu", 1)
            step = request["step"]
            try:
                trial = try_fork(
                    entry.enter(), request["overrides"], Path(request["checkpoints"]), step
                )
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
        entry = self._entry(spec.experiment)
        read_end, write_end = os.pipe()

        def train() -> int:
            try:
                is_claimed = setup.claim(spec)
            except BaseException:
                os.write(write_end, traceback.format_exc().encode())
                return EXIT_CRASHED
            if not is_claimed:
                return 0
            os.write(write_end, _CLAIMED)
            os.close(write_end)
            from lab_server.trainer.train import train

            return train(spec, entry)

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

    def _entry(self, name: str) -> Registered:
        entry = self._experiments.get(name)
        if entry is None:
            raise LookupError(f"there is no experiment {name!r}")
        return entry

    def _loaded(self, name: str) -> Registered:
        entry = self._entry(name)
        if entry.configs is None:
            raise LookupError(entry.error)
        return entry

    def _note_exit(self, pid: int, status: int) -> None:
        if pid in self._trainers:
            self._trainers.discard(pid)
            self._send({"exit": pid, "status": status})


def _folders(spec: GenerationSpec, read: Iterable[str]) -> set[Path]:
    """Return the folders in which a module that could not be imported may appear."""
    files = [*read, *(source for source in spec.sources if is_file(source))]
    folders = {Path(file).absolute().parent for file in files}
    if not all(map(is_file, spec.sources)):
        folders.add(Path.cwd())  # where modules are imported from
    return folders


def _violations(found: Iterable[Violation]) -> list[list[str]]:
    return [[violation.key, violation.message] for violation in found]

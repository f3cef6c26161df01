"""A real Ray cluster on this machine, for benchmarks and tests: its nodes and its head fail, and come back."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from live_server import free_port

MISSING = "needs Ray: pip install 'lab-train[ray]'"
MENDING_TRIES = 8


class LiveRay:
    """A Ray cluster; see ray_cluster.py for its orders.

    Args:
        log: what it prints.
        environment: of all that it starts.
        num_nodes: that work.

    Attributes:
        address: of its dashboard, which stays.
    """

    def __init__(
        self, log: Path, environment: Mapping[str, str] | None = None, *, num_nodes: int = 2
    ) -> None:
        # short: Ray's Unix sockets lie below
        self._folder = Path(tempfile.mkdtemp(prefix="ray-"))
        tables = self._folder / "tables"
        for folder in (tables, self._folder / "ray"):
            folder.mkdir()
        ports = [str(free_port()), str(free_port())]
        self.address = f"http://127.0.0.1:{ports[0]}"
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, str(Path(__file__).with_name("ray_cluster.py"))),
                    *(*ports, str(tables), str(num_nodes)),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                env={
                    **os.environ,
                    **(environment or {}),
                    "RAY_TMPDIR": str(self._folder),
                    "RAY_gcs_storage": "rocksdb",
                    "RAY_gcs_storage_path": str(tables),
                },
            )

    def order(self, what: str) -> None:
        """Have it do something, and wait until it has.

        Raises:
            RuntimeError: If it cannot.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(what + "\n")
        self._process.stdin.flush()
        said = self._process.stdout.readline().strip()
        if said != "done":
            raise RuntimeError(f"Ray: {said or 'its process has ended'}")

    def mend(self) -> None:
        """Start what is missing of it, with some patience: on a busy machine Ray gives up its own start.

        Raises:
            RuntimeError: If it cannot.
        """
        for left in reversed(range(MENDING_TRIES)):
            try:
                self.order("mend")
            except RuntimeError:
                if not left:
                    raise
            else:
                return

    def end(self) -> None:
        """End all of it, and remove its files; again is fine."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(120)
        self._end_orphans()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _end_orphans(self) -> None:
        """End Ray's own processes that a killed raylet left behind; agents and trainers are not."""
        mine = f"RAY_TMPDIR={self._folder}\0".encode()
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                is_rays = (path / "cmdline").read_bytes().startswith(b"ray::")
                if is_rays and mine in (path / "environ").read_bytes():
                    os.kill(int(path.name), signal.SIGKILL)


def is_installed() -> bool:
    """Whether there is a Ray to start."""
    return importlib.util.find_spec("ray") is not None

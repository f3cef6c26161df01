"""A program of ours as a process of its own, for benchmarks: killed, or stopped as an operator does."""

from __future__ import annotations

import contextlib
import signal
import subprocess

STOP_S = 60.0


class LiveProcess:
    """What servers and agents have in common.

    Attributes:
        process: the process; None before the first start.
    """

    process: subprocess.Popen[str] | None = None

    def kill(self) -> None:
        """End it by SIGKILL; its trainers go on."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()

    def stop(self) -> None:
        """End it with its trainers, by SIGTERM; by SIGKILL if it takes too long."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.communicate(timeout=STOP_S)
            self.kill()

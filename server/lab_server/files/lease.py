"""Until when trainers on an agent may train without hearing of the server: a file that they look at.

The agent ends them in time. They look for themselves in case the agent is dead: what the server gives
up must not train on. Times are of CLOCK_BOOTTIME, which goes on while the machine sleeps.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

_MARGIN_S = 30.0
_MARGIN_RATIO = 0.3


def now_s() -> float:
    """Return the seconds since boot, sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Lease:
    """When trainers are to stop by themselves, and when they are killed: before the server gives them up."""

    stop_at_s: float
    kill_at_s: float

    @classmethod
    def from_ping(cls, sent_s: float, lease_s: float) -> Lease:
        """Return the lease that the answer to a ping gives, which the server counts from later on."""
        margin_s = min(_MARGIN_S, _MARGIN_RATIO * lease_s)
        return cls(sent_s + lease_s - margin_s, sent_s + lease_s - margin_s / 3)

    @property
    def grace_s(self) -> float:
        """From the stop to the kill."""
        return self.kill_at_s - self.stop_at_s

    def write(self, path: Path) -> None:
        """Write it to a file, for the trainers."""
        draft = path.with_name(f".{path.name}.new")
        draft.write_text(f"{self.stop_at_s} {self.kill_at_s}")
        draft.replace(path)

    @classmethod
    def read(cls, path: Path) -> Lease | None:
        """Return the lease in a file, None if there is none."""
        try:
            stop_at, kill_at = path.read_text().split()
            return cls(float(stop_at), float(kill_at))
        except (OSError, ValueError):
            return None

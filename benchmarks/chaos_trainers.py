"""The trainers of benchmarks/chaos.py: killed, their spools cut, their checkpoints damaged."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

STRIKES = {"trainer": 6, "trainer, torn spool": 2, "trainer, damaged checkpoint": 2}


class Trainers:
    """The trainers that live.

    Args:
        homes: returns the folders of the servers or agents that train.

    Attributes:
        damages: what became of their files.
    """

    strikes = STRIKES

    def __init__(self, homes: Callable[[], Sequence[Path]], rng: random.Random) -> None:
        self.damages: Counter[str] = Counter()
        self._homes = homes
        self._rng = rng

    def start(self) -> None:
        """Do nothing: runs start them."""

    def stop(self) -> None:
        """Do nothing: whoever started them stops them."""

    def revive(self) -> None:
        """Do nothing."""

    def strike(self, what: str) -> bool:
        """Kill one."""
        living = [trainer for home in self._homes() for trainer in trainers_in(home)]
        if not living:
            return False
        pid, folder = self._rng.choice(living)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        if "torn spool" in what:
            self._tear_spool(folder)
        if "damaged checkpoint" in what:
            self._damage_checkpoint(folder)
        return True

    def _tear_spool(self, folder: Path) -> None:
        """Cut some bytes off the newest spool, as a power loss does."""
        spools = [path for path in folder.glob("spool/*") if path.name.isdigit()]
        with contextlib.suppress(OSError, ValueError):
            newest = max(spools, key=lambda path: int(path.name))
            size = newest.stat().st_size
            os.truncate(newest, max(0, size - self._rng.randrange(1, 400)))
            self.damages["spools torn"] += 1

    def _damage_checkpoint(self, folder: Path) -> None:
        """Flip a bit in the newest checkpoint."""
        checkpoints = [path for path in folder.glob("checkpoints/*") if path.name.isdigit()]
        with contextlib.suppress(OSError, ValueError):
            newest = max(checkpoints, key=lambda path: int(path.name))
            file = self._rng.choice(sorted(newest.glob("*.pt")))
            data = bytearray(file.read_bytes())
            data[self._rng.randrange(len(data))] ^= 1 << self._rng.randrange(8)
            file.write_bytes(data)
            self.damages["checkpoints damaged"] += 1


def trainers_in(home: Path) -> list[tuple[int, Path]]:
    """Return the pid and the run's folder of each trainer that lives in a home."""
    living = []
    for path in sorted(home.glob("runs/*/*/spool/*.pid")):
        with contextlib.suppress(OSError, ValueError, KeyError, IndexError):
            told = json.loads(path.read_text())
            fields = Path(f"/proc/{told['pid']}/stat").read_text().rpartition(")")[2].split()
            if int(fields[19]) == told["start_ticks"] and fields[0] not in "ZX":
                living.append((int(told["pid"]), path.parent.parent))
    return living

"""A run whose trainer has filled its spool: out of the server's sight, until the trainer dies and all of it is there."""

from __future__ import annotations

import asyncio
import subprocess
import time
from pathlib import Path

from stores import Column

from lab_server.files.run_folder import RunFolder
from lab_server.files.spool import SpoolWriter
from lab_server.messages import events
from lab_server.model.run import Run, RunRequest, RunState, TrainerProcess
from lab_server.processes import proc
from lab_server.processes.pid_file import write_pid_file
from lab_server.store import SqlStore


class FullSpool:
    """A run in a home that no server has opened yet.

    Args:
        home: LAB_HOME of the server that will find it.
        run_id: the run's id.
        slot: the slot that it has.
        num_points: of all metrics together.
        num_metrics: measured at each step.
        batch: steps of an event.

    Attributes:
        encode_s: what the trainer's side took to encode it.
    """

    def __init__(
        self, home: Path, run_id: str, slot: str, num_points: int, num_metrics: int, batch: int
    ) -> None:
        folder = RunFolder(home / "runs" / "mnist" / run_id)
        folder.make()
        self._spool = folder.spool(1)
        self._hidden = self._spool.with_name("hidden")
        self.encode_s = _fill(self._hidden, num_points // num_metrics, num_metrics, batch)
        self._trainer = subprocess.Popen(["sleep", "3600"], start_new_session=True)
        asyncio.run(_add_run(home, folder, slot, self._trainer.pid))

    def reveal(self) -> None:
        """Put the spool where the server looks, and end the trainer, for which the server waits."""
        self._hidden.rename(self._spool)
        self.close()

    def close(self) -> None:
        """End the trainer; again is fine."""
        self._trainer.kill()
        self._trainer.wait()


def _fill(path: Path, num_steps: int, num_metrics: int, batch: int) -> float:
    encode_s = 0.0
    with SpoolWriter(path) as spool:
        spool.append([events.encode_state(1, 1, RunState.RUNNING).payload])
        for first in range(0, num_steps, batch):
            steps = list(range(first, min(first + batch, num_steps)))
            values = [step * 0.001 for step in steps]
            columns = [Column(f"metric_{i}", steps, values) for i in range(num_metrics)]
            start = time.perf_counter()
            measured = events.encode_metrics(1, time.time_ns(), columns)
            spool.append(event.payload for event in measured)
            encode_s += time.perf_counter() - start
        spool.append([events.encode_state(1, 1, RunState.COMPLETED).payload])
    return encode_s


async def _add_run(home: Path, folder: RunFolder, slot: str, pid: int) -> None:
    stat = proc.stat(pid)
    assert stat is not None
    process = TrainerProcess(pid, stat.start_ticks)
    write_pid_file(folder.pid_file(1), process)
    store = SqlStore(f"sqlite:///{home / 'lab.db'}")
    run = Run(
        folder.path.name,
        RunRequest("mnist"),
        state=RunState.STARTING,
        attempt=1,
        slot=slot,
        process=process,
    )
    await store.create(run, None)
    await store.close()

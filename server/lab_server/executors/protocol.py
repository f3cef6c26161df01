"""The seam between the server and where trainers run: local processes now, a cluster later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lab_core.configs import PlainValue, Schema
from lab_core.errors import Violation
from lab_server.model.run import TrainerProcess


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in which one run can train.

    Attributes:
        name: unique, such as "cpu:0", "cuda:1" or, of two shares of one GPU, "cuda:0#1".
        device: "cpu" or "cuda:N".
    """

    name: str
    device: str


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """All that a trainer process is told; JSON on its way there.

    Attributes:
        folder: the run's folder.
        num_threads: its share of the CPU's threads.
        is_resume: go on from the newest good checkpoint in the folder, if there is one, and say so.
        max_checkpoint_step: a newer checkpoint does not count. The event log says of no newer one, so it
            may lack metrics from before it; trained again, they come again.
        parent_folder: the folder of the run whose checkpoint a fork starts from, with parent_step.
    """

    run_id: str
    attempt: int
    folder: Path
    experiment: str
    overrides: Mapping[str, PlainValue]
    run_order: tuple[tuple[str, ...], ...]
    models: tuple[str, ...]
    writers: tuple[str, ...]
    name: str
    tags: tuple[str, ...]
    notes: str
    device: str
    num_threads: int
    is_resume: bool = False
    max_checkpoint_step: int = -1
    parent_run_id: str = ""
    parent_folder: Path | None = None
    parent_step: int = 0


@dataclass(frozen=True, slots=True)
class ExperimentEntry:
    """An experiment as its module describes it; schema is None when error and traceback say why."""

    name: str
    schema: Schema | None
    error: str = ""
    traceback: str = ""


EXIT_DISK_FULL = 28
"""Exit status of a trainer that could not even write why it ended; the number is ENOSPC's."""

EXIT_INTERRUPTED = 75
"""Exit status of a trainer that saved and left on a SIGTERM, to be tried again; the number is EX_TEMPFAIL's."""

DISK_FULL = "the disk is full: it could not even write why it ended"
"""What `Executor.wait` says of a trainer that will not fare better when it is tried again."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a trainer's processes have used, in CPU seconds, and use, in bytes of memory."""

    cpu_seconds: float
    memory_bytes: int


class Executor(Protocol):
    """Starts trainers and ends them."""

    @property
    def slots(self) -> Sequence[Slot]:
        """Every slot there is."""

    async def describe(self) -> tuple[ExperimentEntry, ...]:
        """Return the experiments; waits until their modules are imported."""

    async def check(
        self, experiment: str, overrides: Mapping[str, PlainValue]
    ) -> tuple[Violation, ...]:
        """Run the experiment's own checks on a config message, in a process that may die of it."""

    async def launch(self, spec: LaunchSpec) -> TrainerProcess:
        """Start a trainer for an attempt; the same attempt again returns the same process.

        Raises:
            LaunchError: If no process could be started.
        """

    async def inspect(self, spec_folder: Path, attempt: int) -> TrainerProcess | None:
        """Return the attempt's trainer while any process of it lives, else None."""

    async def wait(self, process: TrainerProcess) -> str:
        """Return when the trainer itself has ended: how, in words, "" when nobody knows."""

    async def kill(self, process: TrainerProcess, *, grace_s: float) -> None:
        """End it by SIGTERM, after grace_s it and all that it started by SIGKILL; return when all are gone."""

    async def usages(self, trainers: Sequence[TrainerProcess]) -> Mapping[TrainerProcess, Usage]:
        """Return what each trainer and its children use; one that is gone is not in it."""

    async def close(self) -> None:
        """End what belongs to the executor itself; trainers go on."""

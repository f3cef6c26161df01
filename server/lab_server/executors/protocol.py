"""The seam between the server and where trainers run: this machine, and the agents on others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lab_core.configs import PlainValue
from lab_core.errors import Violation
from lab_server.model.experiment import ExperimentEntry
from lab_server.model.fork import ForkSource, ForkTrial
from lab_server.model.launch import LaunchSpec
from lab_server.model.run import Begun, TrainerProcess
from lab_server.model.slot import Slot, Wants
from lab_server.model.upload import Upload


@dataclass(frozen=True, slots=True)
class Usage:
    """What a trainer's processes have used, in CPU seconds, and use, in bytes of memory."""

    cpu_seconds: float
    memory_bytes: int


class Executor(Protocol):
    """Starts trainers and ends them."""

    @property
    def slots(self) -> Sequence[Slot]:
        """Every slot there is now; those of agents come and go."""

    @property
    def pools(self) -> Sequence[str]:
        """The names of the pools that a run may ask for."""

    def observe(self, on_change: Callable[[], None]) -> None:
        """Call a function whenever there may be a slot for a run that waits."""

    @property
    def devices_to_come(self) -> Sequence[str]:
        """The devices of slots that may come."""

    def obstacle(self, slot: Slot, wants: Wants) -> str:
        """Return why a run that fits a slot cannot have it now, as a clause, "" when it can."""

    def may_come(self, wants: Wants) -> bool:
        """Whether there may be a slot for a run later that is not there yet."""

    def news(self, wants: Wants) -> str:
        """Return what becomes of slots that a run waits for and that are not there, as a clause, or ""."""

    async def describe(self, upload: Upload | None = None) -> tuple[ExperimentEntry, ...]:
        """Return the experiments as their code is now: the same ones while it does not change.

        With an upload, those that are in it. The same for the other methods: without one they are about
        the server's own experiments.

        Waits until their modules are imported.

        Raises:
            LaunchError: If importing them ends the process.
        """

    async def reload(self) -> None:
        """Import the experiments anew, whether their code changed or not."""

    async def check(
        self, experiment: str, overrides: Mapping[str, PlainValue], upload: Upload | None = None
    ) -> tuple[Violation, ...]:
        """Run the experiment's own checks on a config message, in a process that may die of it.

        Raises:
            CheckCrashed: If it does, or there is no such process.
        """

    async def try_fork(
        self,
        experiment: str,
        overrides: Mapping[str, PlainValue],
        source: ForkSource,
        upload: Upload | None = None,
    ) -> ForkTrial:
        """Build a fork's models and optimizers in a process of its own, and see whether they fit."""

    async def launch(self, spec: LaunchSpec) -> TrainerProcess:
        """Start a trainer for an attempt; the same attempt again returns the same process.

        Raises:
            LaunchError: If no process could be started.
        """

    async def inspect(
        self,
        spec_folder: Path,
        attempt: int,
        begun: Begun = Begun(),  # noqa: B008 - frozen
    ) -> TrainerProcess | None:
        """Return the attempt's trainer while any process of it lives, or may live, else None.

        Args:
            spec_folder: the run's folder.
            attempt: its number.
            begun: what the store knows of it.
        """

    def out_of_reach(self, process: TrainerProcess) -> str:
        """Return since when nobody can know how a trainer is, as a clause; "" when it is in reach."""

    def is_lost(self, process: TrainerProcess) -> bool:
        """Whether a trainer was given up, so that events or files of it are missing for good."""

    async def relay(self, folder: Path, attempt: int) -> None:
        """Bring what was just added to a run's control file to the attempt's trainer."""

    def forget(self, run_id: str, attempt: int) -> None:
        """Let go of an attempt: how it ended is in the store."""

    async def wait(self, process: TrainerProcess) -> str:
        """Return when the trainer itself has ended: how, in words, "" when its exit status is unknown."""

    async def kill(self, process: TrainerProcess, *, grace_s: float) -> None:
        """End it by SIGTERM, after grace_s it and all that it started by SIGKILL; return when all are gone."""

    async def usages(self, trainers: Sequence[TrainerProcess]) -> Mapping[TrainerProcess, Usage]:
        """Return what each trainer and its children use; one that is gone is not in it."""

    async def close(self) -> None:
        """Stop the executor itself; trainers go on."""

"""What is the same for all executors whose trainers are on the server's own machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from lab_server.model.run import TrainerProcess
from lab_server.model.slot import Slot, Wants


class OneMachine:
    """An executor without agents: its slots stay, and its trainers are always in reach."""

    @property
    def devices_to_come(self) -> Sequence[str]:
        """The devices of slots that may come: none."""
        return ()

    @property
    def pools(self) -> Sequence[str]:
        """The names of the pools that a run may ask for: none."""
        return ()

    def observe(self, on_change: Callable[[], None]) -> None:
        """Do nothing: slots become free only when a run ends."""

    def obstacle(self, slot: Slot, wants: Wants) -> str:
        """Return "": nothing but another run keeps a run out of its slot."""
        del slot, wants
        return ""

    def may_come(self, wants: Wants) -> bool:
        """Return False: a machine has the slots that it has."""
        del wants
        return False

    def news(self, wants: Wants) -> str:
        """Return "": there is nothing to say of slots that are not there."""
        del wants
        return ""

    def out_of_reach(self, process: TrainerProcess) -> str:
        """Return "": a process of this machine is always in reach."""
        del process
        return ""

    def is_lost(self, process: TrainerProcess) -> bool:
        """Return False: all that a trainer writes is here."""
        del process
        return False

    async def relay(self, folder: Path, attempt: int) -> None:
        """Do nothing: a trainer reads its control file itself."""

    def forget(self, run_id: str, attempt: int) -> None:
        """Do nothing: the files of a run stay where they are."""

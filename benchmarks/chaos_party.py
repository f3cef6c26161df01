"""What benchmarks/chaos.py strikes: parts of the service that start, fail, come back and stop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Party(Protocol):
    """Some parts of the service.

    Attributes:
        strikes: the faults that they can have, and how often of all.
    """

    @property
    def strikes(self) -> Mapping[str, int]: ...

    def start(self) -> None:
        """Start all, and wait until it is ready."""

    def stop(self) -> None:
        """Stop all."""

    def revive(self) -> None:
        """Start again what has ended by itself, as whatever started it would."""

    def strike(self, what: str) -> bool:
        """Let something fail for a while.

        Args:
            what: one of `strikes`.

        Returns:
            Whether there was something that could fail.
        """

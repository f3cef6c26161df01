"""An agent, as the server knows it: what it has, and whether it is in reach."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from lab_server.model.agent import ToAgent
from lab_server.model.gpu import GpuReading
from lab_server.model.slot import Slot, Wants


@dataclass
class Agent:
    """What the registry knows of one agent.

    Attributes:
        name: unique on the server.
        pool: the pool that it is in.
        slots: under their names on the server.
        experiments: the digest of each one's code, by name.
        send: tells it something; None while it is not attached.
        end: ends its stream.
        away_since_ns: since when it is not attached; 0 while it is.
        is_leaving: it takes no new runs.
        refusal: why it was not taken back when it tried to attach, "" if it was, or has not tried.
        gpus: what they did when it last told.
    """

    name: str
    pool: str
    slots: tuple[Slot, ...] = ()
    experiments: Mapping[str, str] = field(default_factory=dict)
    send: Callable[[ToAgent], None] | None = None
    end: Callable[[], None] | None = None
    away_since_ns: int = field(default_factory=time.time_ns)
    is_leaving: bool = False
    refusal: str = ""
    gpus: tuple[GpuReading, ...] = ()

    def tell(self, said: ToAgent) -> None:
        """Tell it something, if it is attached."""
        if self.send is not None:
            self.send(said)

    @property
    def out_of_reach(self) -> str:
        """Since when it is not attached, as a clause."""
        since = datetime.fromtimestamp(self.away_since_ns / 1e9, UTC)
        why = f" ({self.refusal})" if self.refusal else ""
        return f"agent {self.name} is out of reach since {since:%Y-%m-%d %H:%M:%S} UTC{why}"

    def obstacle(self, wants: Wants) -> str:
        """Return why a run cannot be placed on the agent now, as a clause, "" when it can."""
        if self.is_leaving:
            return f"agent {self.name} is stopping"
        if self.send is None:
            return self.out_of_reach
        if wants.is_upload:
            return ""  # it is sent to the agent, by its content
        digest = self.experiments.get(wants.experiment)
        if digest is None:
            return f"agent {self.name} has no experiment {wants.experiment!r}"
        if wants.code_digest and digest != wants.code_digest:
            return f"agent {self.name} has another version of the experiment {wants.experiment!r}"
        return ""

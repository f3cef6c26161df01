"""`[[pools]]` of the settings file: groups of agents, and who starts them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from lab_core.errors import SettingsError
from lab_server.model.agent import NAME
from lab_server.model.slot import parse_slots


class PoolSettings(BaseModel):
    """One pool.

    Attributes:
        name: what runs ask for.
        engine: who starts its agents: people (static), Ray or Slurm.
        slots: of each agent.
        cpus: that each agent's job asks the engine for.
        gpus: the same.
        memory_mb: the same; 0 asks for none in particular.
        min: agents that there are always.
        max: agents that there are at most.
        idle_s: seconds without a run after which an agent is let go.
        address: of Ray's dashboard, http://HEAD:8265.
        server: HOST:PORT at which agents reach this server; "" for where it listens.
        command: what starts an agent on a node.
        arguments: more arguments of `lab-agent join`, such as --experiments and --ca.
        options: more options of sbatch.
        allow_uploads: whether its agents run code that clients send, where the server allows that.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    engine: Literal["static", "ray", "slurm"] = "static"
    slots: str = "cpu:1"
    cpus: Annotated[float, Field(gt=0, le=10_000)] = 1
    gpus: Annotated[int, Field(ge=0, le=1000)] = 0
    memory_mb: Annotated[int, Field(ge=0)] = 0
    min: Annotated[int, Field(ge=0, le=10_000)] = 0
    max: Annotated[int, Field(ge=0, le=10_000)] = 1
    idle_s: Annotated[float, Field(ge=0, le=7 * 86400)] = 300.0
    address: str = ""
    server: str = ""
    command: str = "lab-agent"
    arguments: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    allow_uploads: bool = True

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        # an agent's name is the pool's, its server's and a number
        if not NAME.fullmatch(name) or len(name) > 40:
            raise ValueError(f"{name!r} is no name: use up to 40 letters, digits, '-', '_' and '.'")
        return name

    @field_validator("slots")
    @classmethod
    def _are_slots(cls, text: str) -> str:
        try:
            slots = parse_slots(text)
        except SettingsError as error:
            raise ValueError(str(error)) from None
        if not slots:
            raise ValueError("an agent without slots has nothing to do")
        return text

    @model_validator(mode="after")
    def _is_whole(self) -> PoolSettings:
        if self.min > self.max:
            raise ValueError(f"min is {self.min}, more than max, which is {self.max}")
        if self.engine == "ray" and not self.address.startswith(("http://", "https://")):
            raise ValueError("address must be that of Ray's dashboard, such as http://head:8265")
        return self

    @property
    def num_slots(self) -> int:
        """How many slots each agent has."""
        return len(parse_slots(self.slots))

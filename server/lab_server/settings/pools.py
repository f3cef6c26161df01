"""`[[pools]]` of the settings file: groups of agents, and who starts them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from lab_core.errors import SettingsError
from lab_server.model.agent import NAME
from lab_server.model.slot import Slot, parse_slots
from lab_server.settings.fields import setting


def _name(name: str) -> str:
    # an agent's name is the pool's, its server's and a number
    if not NAME.fullmatch(name) or len(name) > 40:
        raise ValueError(f"{name!r} is no name: use up to 40 letters, digits, '-', '_' and '.'")
    return name


def checked_slots(text: str) -> tuple[Slot, ...]:
    """Return the slots in a setting.

    Raises:
        ValueError: If they are none.
    """
    try:
        return tuple(parse_slots(text))
    except SettingsError as error:
        raise ValueError(str(error)) from None


def _slots(text: str) -> str:
    if not checked_slots(text):
        raise ValueError("an agent without slots has nothing to do")
    return text


@dataclass(frozen=True)
class PoolSettings:
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

    name: str = setting(check=_name)
    engine: Literal["static", "ray", "slurm"] = setting("static")
    slots: str = setting("cpu:1", check=_slots)
    cpus: float = setting(1.0, above=0, at_most=10_000)
    gpus: int = setting(0, at_least=0, at_most=1000)
    memory_mb: int = setting(0, at_least=0)
    min: int = setting(0, at_least=0, at_most=10_000)
    max: int = setting(1, at_least=0, at_most=10_000)
    idle_s: float = setting(300.0, at_least=0, at_most=7 * 86400)
    address: str = setting("")
    server: str = setting("")
    command: str = setting("lab-agent")
    arguments: tuple[str, ...] = setting(())
    options: tuple[str, ...] = setting(())
    allow_uploads: bool = setting(True)

    def contradictions(self) -> Iterator[str]:
        """See `fields.Declared`."""
        if self.min > self.max:
            yield f"min is {self.min}, more than max, which is {self.max}"
        if self.engine == "ray" and not self.address.startswith(("http://", "https://")):
            yield "address must be that of Ray's dashboard, such as http://head:8265"

    @property
    def num_slots(self) -> int:
        """How many slots each agent has."""
        return len(parse_slots(self.slots))

"""Which slots are taken, and by which run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from lab_core.errors import ConfigError, Violation
from lab_server.model.slot import Slot, Wants, agent_of, num_threads_each


class SlotTable:
    """Which run has which slot. The supervisor owns it.

    Args:
        slots: returns the slots that there are now.
        obstacle: returns why a run that fits a slot cannot have it now, "" when it can.
    """

    def __init__(
        self,
        slots: Callable[[], Sequence[Slot]],
        obstacle: Callable[[Slot, Wants], str] = lambda _slot, _wants: "",
    ) -> None:
        self._slots = slots
        self._obstacle = obstacle
        self._runs: dict[str, str] = {}

    def __iter__(self) -> Iterator[tuple[Slot, str]]:
        """Yield each slot with the id of the run that has it, "" when it is free."""
        for slot in self._slots():
            yield slot, self._runs.get(slot.name, "")

    @property
    def num_threads(self) -> int:
        """How many threads each trainer on this machine gets."""
        return num_threads_each(sum(not slot.pool for slot in self._slots()))

    def find_free(self, wants: Wants) -> Slot | None:
        """Return a free slot for a run, None when there is none now."""
        for slot in self._slots():
            is_free = slot.name not in self._runs
            if is_free and wants.fit(slot) and not self._obstacle(slot, wants):
                return slot
        return None

    def take(self, name: str, run_id: str) -> Slot | None:
        """Give a slot to a run; None when there is no such slot (any more), or it is taken."""
        for slot in self._slots():
            if slot.name == name and self._runs.get(name, run_id) == run_id:
                self._runs[name] = run_id
                return slot
        return None

    def keep(self, name: str, run_id: str) -> None:
        """Note that a run has a slot, which may be on an agent that is away."""
        self._runs.setdefault(name, run_id)

    def release(self, name: str, run_id: str) -> None:
        """Free a slot, if the run has it."""
        if self._runs.get(name) == run_id:
            del self._runs[name]

    def check(self, wants: Wants) -> None:
        """Refuse a device that no slot has, and code that a client sent where no slot takes any.

        Raises:
            ConfigError: With what there is.
        """
        slots = [slot for slot in self._slots() if wants.pool in ("", slot.pool)]
        if slots and not any(wants.fit(slot) for slot in slots):
            if refusals := self._refusals(wants):
                raise ConfigError([Violation("options.pool", refusals)])
            devices = ", ".join(dict.fromkeys(slot.device for slot in slots))
            where = f"pool {wants.pool!r}" if wants.pool else "this server"
            message = f"{where} has no slot on device {wants.device!r}; it has {devices}"
            raise ConfigError([Violation("options.device", message)])

    def why_waits(self, wants: Wants) -> str:
        """Return why a run cannot have any slot, free or not, as a clause; "" when it just waits."""
        fitting = [slot for slot in self._slots() if wants.fit(slot)]
        if not fitting and (refusals := self._refusals(wants)):
            return refusals
        if not fitting:
            where = f" in pool {wants.pool!r}" if wants.pool else ""
            return f"no agent with such a slot is attached{where}"
        obstacles = [self._obstacle(slot, wants) for slot in fitting]
        return "" if "" in obstacles else "; ".join(dict.fromkeys(obstacles))

    def _refusals(self, wants: Wants) -> str:
        """Return which agents' slots a run has no access to because its code was sent, as a clause, or ""."""
        agents = dict.fromkeys(
            agent_of(slot.name) for slot in self._slots() if wants.fits_but_for_code(slot)
        )
        if not wants.is_upload or not agents:
            return ""
        who, run = ("agents", "run") if len(agents) > 1 else ("agent", "runs")
        names = ", ".join(agents)
        return (
            f"{who} {names} {run} no code that clients send; --allow-uploads of lab-agent is needed"
        )

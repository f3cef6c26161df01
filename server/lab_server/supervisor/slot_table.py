"""Which slots are taken, and by which run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lab_core.errors import ConfigError, Violation
from lab_server.model.slot import Slot, num_threads_each


class SlotTable:
    """Which run has which slot. The supervisor owns it."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        self._slots = tuple(slots)
        self._runs: dict[str, str] = {}

    def __iter__(self) -> Iterator[tuple[Slot, str]]:
        """Yield each slot with the id of the run that has it, "" when it is free."""
        for slot in self._slots:
            yield slot, self._runs.get(slot.name, "")

    @property
    def num_threads(self) -> int:
        """How many threads each trainer gets."""
        return num_threads_each(len(self._slots))

    def find_free(self, device: str) -> Slot | None:
        """Return a free slot for a device request, None when there is none now."""
        for slot in self._slots:
            if slot.name not in self._runs and fits(slot, device):
                return slot
        return None

    def take(self, name: str, run_id: str) -> Slot | None:
        """Give a slot to a run; None when the server has no such slot (any more), or it is taken."""
        for slot in self._slots:
            if slot.name == name and self._runs.get(name, run_id) == run_id:
                self._runs[name] = run_id
                return slot
        return None

    def release(self, run_id: str) -> None:
        """Free what the run has."""
        self._runs = {name: owner for name, owner in self._runs.items() if owner != run_id}

    def check(self, device: str) -> None:
        """Refuse a device request that no slot will ever fulfil.

        Raises:
            ConfigError: With what there is.
        """
        if not any(fits(slot, device) for slot in self._slots):
            devices = ", ".join(dict.fromkeys(slot.device for slot in self._slots))
            message = f"this server has no slot on device {device!r}; it has {devices}"
            raise ConfigError([Violation("options.device", message)])


def fits(slot: Slot, device: str) -> bool:
    """Whether a run that asks for a device may have the slot: "" takes any, "cuda" any GPU."""
    return device in ("", slot.device, slot.device.partition(":")[0])

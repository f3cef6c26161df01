"""What the items of a config instance were set to, to be compared with those of another run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lab_core.configs.instances.base import BaseConfigs
from lab_core.configs.schema.plain import PlainValue, is_plain, to_plain


@dataclass(slots=True)
class Settings:
    """The plain side of configs.

    Attributes:
        values: the value of each plain item that was used, or the option that computes it.
        reads: what each computed item read.
    """

    values: dict[str, PlainValue] = field(default_factory=dict)
    reads: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def to_plain(self) -> dict[str, Any]:
        """Return plain data."""
        return {"values": self.values, "reads": {k: list(v) for k, v in self.reads.items()}}

    @classmethod
    def from_plain(cls, data: Mapping[str, Any]) -> Settings:
        """Return what ``to_plain`` made plain."""
        reads = {key: tuple(names) for key, names in data.get("reads", {}).items()}
        return cls(dict(data.get("values", {})), reads)

    def changes_behind(self, key: str, now: Settings) -> list[tuple[str, PlainValue, PlainValue]]:
        """Return the settings that an item depends on and that are others now: key, then, now."""
        behind = dict.fromkeys((*self.behind(key), *now.behind(key)))
        return [
            (name, self.values[name], now.values[name])
            for name in behind
            if name in self.values and name in now.values and self.values[name] != now.values[name]
        ]

    def behind(self, key: str) -> Iterator[str]:
        """Yield an item, and all that its value comes from."""
        seen = {key}
        pending = [key]
        while pending:
            name = pending.pop(0)
            yield name
            fresh = [read for read in self.reads.get(name, ()) if read not in seen]
            seen.update(fresh)
            pending += fresh


def settings(conf: BaseConfigs, also: Mapping[str, Any] | None = None) -> Settings:
    """Return what the items of an instance are set to now, as far as they were used.

    Args:
        conf: the instance.
        also: values that are about to be its own.
    """
    state = conf._lab_state
    values: dict[str, PlainValue] = {}
    for key, value in {**state.values, **(also or {})}.items():
        choice = state.choice(key)
        if choice.option is not None and not choice.has_value:
            values[key] = choice.option
        elif is_plain(value):
            values[key] = to_plain(value)
    return Settings(values, dict(state.reads))

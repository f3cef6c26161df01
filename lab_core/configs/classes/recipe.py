"""How an item of a merged class gets its value when it is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lab_core.configs.classes.annotations import MISSING
from lab_core.configs.classes.build import Build
from lab_core.configs.classes.declarations import Option
from lab_core.configs.classes.marker import ConfigsMarker
from lab_core.configs.classes.type_info import TypeInfo


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class BoundOption:
    """An option, and the prefix of the nested configs it was registered on."""

    option: Option
    prefix: str
    keys: tuple[str, ...]

    @classmethod
    def bind(cls, option: Option, prefix: str = "") -> BoundOption:
        """Return the option with the full keys of the items it computes."""
        targets = option.targets
        return cls(option, prefix, tuple(prefix + t for t in targets) if prefix else targets)


@dataclass(slots=True, eq=False, repr=False)
class ItemRecipe:
    """How one item gets its value in a run."""

    info: TypeInfo
    prefix: str
    raw: Any = MISSING
    options: dict[str, BoundOption] = field(default_factory=dict)
    build: Build | None = None
    nested: type[ConfigsMarker] | None = None

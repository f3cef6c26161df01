"""A config class merged with its bases and nested classes: its schema, and how to compute it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lab_core.configs.classes.declarations import version
from lab_core.configs.classes.describe import describe
from lab_core.configs.classes.marker import ConfigsMarker
from lab_core.configs.classes.merge import Merge
from lab_core.configs.classes.recipe import ItemRecipe
from lab_core.configs.schema.schema import Schema


@dataclass(slots=True, eq=False, repr=False)
class Spec:
    """A merged config class."""

    cls: type[ConfigsMarker]
    schema: Schema
    sources: dict[str, ItemRecipe]
    checks: list[tuple[str, str, Callable[[Any], object]]]
    aggregate_values: dict[tuple[str, str, str], Any]
    substitutes: dict[str, type[ConfigsMarker]]
    is_final: bool

    def top_names(self, prefix: str = "") -> list[str]:
        """Return the names directly under a prefix."""
        names = (key.removeprefix(prefix) for key in self.sources if key.startswith(prefix))
        return [name for name in names if "." not in name]


def spec_of(cls: type[ConfigsMarker]) -> Spec:
    """Return the merged class; cached until the next registration on any config class."""
    cached = vars(cls).get("_lab_spec")
    if cached is not None and cached[0] == version():
        return cached[1]  # type: ignore[no-any-return]
    spec = merged(cls, {})
    if spec.is_final:
        type.__setattr__(cls, "_lab_spec", (version(), spec))
    return spec


def merged(cls: type[ConfigsMarker], substitutes: dict[str, type[ConfigsMarker]]) -> Spec:
    """Return the merged class with the nested classes at some keys replaced by others."""
    merge = Merge(cls, substitutes=substitutes)
    merge.run()
    return Spec(
        cls=cls,
        schema=describe(merge),
        sources=merge.sources,
        checks=merge.checks,
        aggregate_values={
            (key, option, target): value
            for (key, option), choices in merge.aggregates.items()
            for target, value in choices
        },
        substitutes=substitutes,
        is_final=merge.is_final,
    )

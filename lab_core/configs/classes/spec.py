"""A config class merged with its bases and nested classes: its schema, and how to compute it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lab_core.configs.classes.annotations import MISSING, TypeInfo
from lab_core.configs.classes.build import Build
from lab_core.configs.classes.declarations import Option, version
from lab_core.configs.schema.schema import Schema

if TYPE_CHECKING:
    from lab_core.configs.instances.base import BaseConfigs


@dataclass(frozen=True, slots=True, eq=False)
class BoundOption:
    """An option, and where in the tree of configs it was registered."""

    option: Option
    prefix: str
    keys: tuple[str, ...]

    @classmethod
    def bind(cls, option: Option, prefix: str = "") -> BoundOption:
        """Return the option with the full keys of what it computes."""
        return cls(option, prefix, tuple(prefix + target for target in option.targets))


@dataclass(slots=True, eq=False)
class Source:
    """How one item gets its value at run time."""

    info: TypeInfo
    prefix: str
    raw: Any = MISSING
    options: dict[str, BoundOption] = field(default_factory=dict)
    build: Build | None = None
    nested: type[BaseConfigs] | None = None


@dataclass(slots=True, eq=False)
class Spec:
    """A config class, merged."""

    cls: type[BaseConfigs]
    schema: Schema
    sources: dict[str, Source]
    checks: list[tuple[str, str, Callable[[Any], object]]]
    aggregate_values: dict[tuple[str, str, str], Any]
    substitutes: dict[str, type[BaseConfigs]]
    is_final: bool

    def top_names(self, prefix: str = "") -> list[str]:
        """Return the names under a prefix, without what is nested deeper."""
        names = (key.removeprefix(prefix) for key in self.sources if key.startswith(prefix))
        return [name for name in names if "." not in name]


def spec_of(cls: type[BaseConfigs]) -> Spec:
    """Return the merged class; kept until something else is registered anywhere."""
    cached = vars(cls).get("_lab_spec")
    if cached is not None and cached[0] == version():
        return cached[1]  # type: ignore[no-any-return]
    spec = merged(cls, {})
    if spec.is_final:
        type.__setattr__(cls, "_lab_spec", (version(), spec))
    return spec


def merged(cls: type[BaseConfigs], substitutes: dict[str, type[BaseConfigs]]) -> Spec:
    """Return the merged class with other classes nested at some keys than were declared there."""
    from lab_core.configs.classes.describe import describe
    from lab_core.configs.classes.merge import Merge

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

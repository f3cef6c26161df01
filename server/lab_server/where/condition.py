"""A condition on runs, parsed and typed: what a store has to answer.

A comparison with something that a run does not have is false, and `Not` is true where what it holds is
not: there is no third value.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from lab_core.configs.schema.suggest import did_you_mean
from lab_rpc.run_names import FIELDS, Kind, Name

Operator = Literal["=", "<", "<=", ">", ">=", "~"]
Operand: TypeAlias = "bool | int | float | str | None"


@dataclass(frozen=True, slots=True)
class Compare:
    """One comparison.

    Attributes:
        name: what is compared.
        operator: `~` holds when the text is in it, whatever the case of A to Z; of tags `=` and `~` hold
            when they do for one of them.
        operand: of the type that the name asks for: of times nanoseconds since 1970 UTC, of durations
            seconds; None is "has no such value", NaN is "is not a number".
    """

    name: Name
    operator: Operator
    operand: Operand


@dataclass(frozen=True, slots=True)
class Not:
    """Holds where another condition does not."""

    condition: Condition


@dataclass(frozen=True, slots=True)
class AllOf:
    """Holds where all of some conditions do."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Holds where one of some conditions does."""

    conditions: tuple[Condition, ...]


Condition: TypeAlias = "Compare | Not | AllOf | AnyOf"


def unknown_names(condition: Condition, known: Collection[str]) -> list[str]:
    """Return a sentence about each config or metric of a condition that is not among the known ones."""
    asked = {
        name.key: None
        for name in names_in(condition)
        if name.kind in (Kind.CONFIG, Kind.METRIC, Kind.VALUE) and name.key not in known
    }
    names = [*sorted(known), *FIELDS]
    hints = {key: did_you_mean(key, names) for key in asked}
    return [
        f"no recent run has a config or metric {key!r}{hint if 'mean' in hint else ''}"
        for key, hint in hints.items()
    ]


def names_in(condition: Condition) -> Iterator[Name]:
    """Yield what a condition compares."""
    match condition:
        case Compare(name=name):
            yield name
        case Not(condition=inner):
            yield from names_in(inner)
        case AllOf(conditions=several) | AnyOf(conditions=several):
            for one in several:
                yield from names_in(one)

"""What one item of an experiment's configs may be in a search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from lab_core.configs import PlainValue


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some values."""

    values: tuple[PlainValue, ...]


@dataclass(frozen=True, slots=True)
class FloatRange:
    """The numbers from low to high, both included.

    Attributes:
        step: the distance of two numbers; 0 when they are continuous.
        is_log: even in the logarithm; not with a step.
    """

    low: float
    high: float
    step: float = 0.0
    is_log: bool = False


@dataclass(frozen=True, slots=True)
class IntRange:
    """The whole numbers from low to high, both included."""

    low: int
    high: int
    step: int = 1
    is_log: bool = False


@dataclass(frozen=True, slots=True)
class Anything:
    """All that the experiment's schema allows; replaced by one of the others when a search is created."""


Domain: TypeAlias = Choice | FloatRange | IntRange | Anything


def as_in(domain: Domain, value: PlainValue) -> PlainValue:
    """Return a value as a domain has it: 1 is 1.0 where numbers are floats, as in any config message."""
    return float(value) if isinstance(domain, FloatRange) and type(value) is int else value


def contains(domain: Domain, value: PlainValue) -> bool:
    """Return whether a value belongs to a domain; 1, 1.0 and True are three values to a choice."""
    match domain:
        case Choice(values):
            return any(type(v) is type(value) and v == value for v in values)
        case IntRange(low, high, step, _):
            is_int = isinstance(value, int) and not isinstance(value, bool)
            return is_int and low <= value <= high and (value - low) % step == 0  # type: ignore[operator]
        case FloatRange(low, high, step, _):
            if not isinstance(value, float):
                return False
            return low <= value <= high and (not step or _is_on_grid(value, low, step))
        case Anything():
            return True


def _is_on_grid(value: float, low: float, step: float) -> bool:
    return abs((value - low) / step - round((value - low) / step)) < 1e-6

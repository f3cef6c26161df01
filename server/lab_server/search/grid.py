"""Every combination of choices once, in order: the last item changes first."""

from __future__ import annotations

import math
from collections.abc import Mapping

from lab_core.configs import PlainValue
from lab_server.model.domain import Choice, Domain, IntRange


def values_of(domain: Domain) -> tuple[PlainValue, ...] | None:
    """Return the values of a domain that has a list of them, None for one that has not."""
    match domain:
        case Choice(values):
            return values
        case IntRange(low, high, step, False):
            return tuple(range(low, high + 1, step))
        case _:
            return None


def size(space: Mapping[str, Domain]) -> int:
    """Return how many combinations there are."""
    return math.prod(num_values(domain) for domain in space.values())


def num_values(domain: Domain) -> int:
    """Return how many values a domain has, 0 for one without a list of them."""
    match domain:
        case Choice(values):
            return len(values)
        case IntRange(low, high, step, False):
            return (high - low) // step + 1
        case _:
            return 0


def point(space: Mapping[str, Domain], index: int) -> dict[str, PlainValue]:
    """Return a combination by its number, from 0."""
    found: dict[str, PlainValue] = {}
    for key, domain in reversed(list(space.items())):
        values = values_of(domain)
        assert values is not None, "checked when the search was created"
        index, place = divmod(index, len(values))
        found[key] = values[place]
    return {key: found[key] for key in space}

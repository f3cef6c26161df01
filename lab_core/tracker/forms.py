"""Read the arguments of `add` and `save`: names, values and steps."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

from lab_core.errors import TrackerError


def named_values(args: tuple[Any, ...], named: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the arguments of `add("loss", x)` or `add({"loss": x})` and the keywords as one mapping."""
    if len(args) == 1 and isinstance(args[0], Mapping):
        given: Mapping[str, Any] = args[0]
    elif len(args) == 2 and isinstance(args[0], str):
        given = {args[0]: args[1]}
    else:
        shown = ", ".join(type(a).__name__ for a in args)
        raise TrackerError(
            f'add takes add(loss=x), add("loss", x) or add({{"loss": x}}); got ({shown})'
        )
    twice = sorted(given.keys() & named.keys(), key=str)
    if twice:
        raise TrackerError(f"{twice[0]!r} is given twice")
    return {**given, **named} if named else given


def checked_step(step: object) -> int:
    """Validate a step: a whole number of at least 0, below 2^63.

    Raises:
        TrackerError: If it is not.
    """
    if isinstance(step, bool) or not hasattr(step, "__index__"):
        raise TrackerError(f"a step is a whole number, got {step!r}")
    try:
        at = operator.index(step)
    except TypeError:  # of an array or tensor that is no single whole number
        raise TrackerError(f"a step is a whole number, got {step!r}") from None
    if at < 0:
        raise TrackerError(f"a step is at least 0, got {max(at, -(2**63))}")
    if at >= 2**63:
        raise TrackerError("a step is below 2^63, and this one is not")
    return at

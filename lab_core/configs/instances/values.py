"""Values of items: whether two are the same, and copies that instances do not share."""

from __future__ import annotations

from typing import Any


def is_same(one: Any, other: Any) -> bool:
    """Return whether two values are the same; NaN is, and arrays are if they are one."""
    if one is other:
        return True
    try:
        return bool(one == other) or bool(one != one and other != other)
    except Exception:  # of arrays == is no bool
        return False


def own_copy(value: Any) -> Any:
    """Return a deep copy of containers, so that instances share none; other objects are not copied."""
    if type(value) in (list, tuple):
        return type(value)(map(own_copy, value))
    if type(value) is dict:
        return {key: own_copy(inner) for key, inner in value.items()}
    return set(value) if type(value) is set else value

"""What tells config classes from other classes, for those who read classes and make no instances."""

from __future__ import annotations

from typing import Any


class ConfigsMarker:
    """The base of `BaseConfigs`, and of nothing else: whoever is one of these is a config class."""

    __slots__ = ()

    def _lab_given(self) -> dict[str, Any]:
        """Return what this instance was assigned or overridden with, by key."""
        raise NotImplementedError


def declares_items(base: type) -> bool:
    """Say whether a class of a config class's MRO may declare items: its own code, not the ground."""
    return not (
        base in (object, ConfigsMarker)
        or ConfigsMarker in base.__bases__
        or base.__module__ == "typing"
    )

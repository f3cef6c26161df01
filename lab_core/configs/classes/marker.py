"""The base class that marks config classes, for modules that inspect classes without instances."""

from __future__ import annotations

from typing import Any


class ConfigsMarker:
    """The base of `BaseConfigs` alone: every subclass is a config class."""

    __slots__ = ()

    def _lab_given(self) -> dict[str, Any]:
        """Return the values assigned to this instance or overridden, by key."""
        raise NotImplementedError


def declares_items(base: type) -> bool:
    """Return whether a class in a config class's MRO may declare items: user code, not a base of ours."""
    return not (
        base in (object, ConfigsMarker)
        or ConfigsMarker in base.__bases__
        or base.__module__ == "typing"
    )

"""Running what the configs say."""

from __future__ import annotations

from lab_core.configs import BaseConfigs
from lab_core.errors import LabError


def run(conf: BaseConfigs) -> None:
    """Call the configs' ``main``, an item that can be called, or else their method ``run``.

    Raises:
        LabError: If they have neither.
    """
    for name in ("main", "run"):
        if hasattr(type(conf), name):
            target = getattr(conf, name)
            if not callable(target):
                raise LabError(f"{name!r} of {type(conf).__name__} cannot be called: {target!r}")
            target()
            return
    raise LabError(f"{type(conf).__name__} has neither an item 'main' nor a method 'run'")

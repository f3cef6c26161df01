"""Items built from their class: its constructor takes no arguments, or the configs."""

from __future__ import annotations

import inspect
from enum import Enum
from typing import Any

from lab_core.configs.classes.annotations import MISSING, evaluate
from lab_core.configs.classes.marker import ConfigsMarker

_NAMES = frozenset({"c", "cfg", "conf", "config", "configs"})


class Build(Enum):
    """The arguments that the constructor is called with."""

    WITH_NOTHING = "nothing"
    WITH_CONFIGS = "configs"


def how_to_build(cls: type | None) -> Build | None:
    """Return how to construct an item of this class, or None if it needs other arguments."""
    if (
        cls is None
        or cls.__module__ == "builtins"
        or inspect.isabstract(cls)
        or issubclass(cls, Enum)
    ):
        return None
    if getattr(cls, "_is_protocol", False):
        return None
    try:
        signature = inspect.signature(cls)
        scope = getattr(vars(cls).get("__init__"), "__globals__", {})
    except (TypeError, ValueError):  # some classes written in C have no signature
        return None
    parameters = [
        p.replace(annotation=_evaluated(p.annotation, scope)) for p in signature.parameters.values()
    ]
    own = vars(cls).get("__init__") or vars(cls).get("__new__")
    if own is not None and any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None  # *args hides which arguments are required, e.g. torch.nn.Module
    needed = [
        p
        for p in parameters
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if len(needed) == 1:
        is_positional = needed[0].kind in (
            needed[0].POSITIONAL_ONLY,
            needed[0].POSITIONAL_OR_KEYWORD,
        )
        return Build.WITH_CONFIGS if is_positional and _takes_configs(needed[0]) else None
    if needed:
        return None
    first = next(iter(parameters), None)
    if first is not None and first.default is not first.empty and _is_configs(first.annotation):
        return Build.WITH_CONFIGS
    return Build.WITH_NOTHING


def _evaluated(annotation: Any, scope: dict[str, Any]) -> Any:
    """Return the annotation; if it cannot be evaluated, it stays a string."""
    if not isinstance(annotation, str):
        return annotation
    found = evaluate(annotation, scope, {})
    return annotation if found is MISSING else found


def _takes_configs(parameter: inspect.Parameter) -> bool:
    annotation = parameter.annotation
    if annotation is parameter.empty or annotation is Any:
        return parameter.name in _NAMES
    return _is_configs(annotation) or (isinstance(annotation, str) and parameter.name in _NAMES)


def _is_configs(annotation: object) -> bool:
    if isinstance(annotation, str):
        # not evaluated: it may name a class imported only under TYPE_CHECKING
        return annotation.strip("'\"").rpartition(".")[2].endswith("Configs")
    return isinstance(annotation, type) and issubclass(annotation, ConfigsMarker)


def build(cls: Any, how: Build, configs: object) -> Any:
    """Construct the item."""
    return cls(configs) if how is Build.WITH_CONFIGS else cls()

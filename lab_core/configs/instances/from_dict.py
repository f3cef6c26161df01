"""Configs from a plain dict: every entry is an item, every plain value a hyper-parameter."""

from __future__ import annotations

import keyword
import types
from collections.abc import Mapping
from typing import Any, cast

from lab_core.configs.instances.base import BaseConfigs
from lab_core.configs.schema.plain import is_plain
from lab_core.errors import ConfigError, Violation


def configs_from_dict(values: Mapping[str, Any]) -> BaseConfigs:
    """Return an instance whose items are the dict's entries; an inner dict becomes nested configs.

    Raises:
        ConfigError: If a key cannot be the name of a public attribute.
    """
    cls = _class_of(values, "Configs", "")
    return cls()


def _class_of(values: Mapping[str, Any], name: str, prefix: str) -> type[BaseConfigs]:
    wrong = [
        Violation(f"{prefix}{key}", f"{key!r} cannot name a config: it is no public identifier")
        for key in values
        if not isinstance(key, str)
        or not key.isidentifier()
        or keyword.iskeyword(key)
        or key.startswith("_")
    ]
    if wrong:
        raise ConfigError(wrong)
    cls = cast(type[BaseConfigs], types.new_class(name, (BaseConfigs,)))
    for key, value in values.items():
        if isinstance(value, Mapping):
            value = _class_of(value, key.title(), f"{prefix}{key}.")()
        elif is_plain(value):
            cls.set_hyperparams(key)
        # not in the class body: a function there would be a method
        cls._lab_own.values[key] = value
        cls._lab_declare(key)
    return cls

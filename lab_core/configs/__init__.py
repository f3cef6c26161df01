"""Configs: declare them in a class, override them by a message, compute them when they are read.

Imports neither torch nor numpy: a server plans with this package alone.
"""

from __future__ import annotations

from typing import Any

from lab_core.configs.instances.base import BaseConfigs
from lab_core.configs.instances.items import Item
from lab_core.configs.instances.report import (
    ListingRow,
    computed,
    hyperparams,
    listing,
    to_yaml_data,
)
from lab_core.configs.instances.resolve import calculate, check
from lab_core.configs.instances.settings import Settings, settings
from lab_core.configs.schema.plain import PlainValue
from lab_core.configs.schema.plan import Plan, PlanItem, config_hash, plan
from lab_core.configs.schema.schema import Aggregate, Group, Schema, SchemaItem
from lab_core.errors import ConfigError, Violation

__all__ = [
    "Aggregate",
    "BaseConfigs",
    "ConfigError",
    "Group",
    "Item",
    "ListingRow",
    "PlainValue",
    "Plan",
    "PlanItem",
    "Schema",
    "SchemaItem",
    "Settings",
    "Violation",
    "calculate",
    "check",
    "computed",
    "config_hash",
    "hyperparams",
    "listing",
    "option",
    "plan",
    "schema",
    "settings",
    "to_yaml_data",
]


def option(name: str) -> Any:
    """Return an option's name, typed so that a checker takes it as the value of any item.

    Example:
        >>> class Configs(BaseConfigs):
        ...     loop_step: int = option("steps_of_an_epoch")
    """
    return name


def schema(configs_class: type[BaseConfigs]) -> Schema:
    """Return everything about a config class as plain data, with the docs beside its declarations."""
    import inspect

    from lab_core.configs.classes.docs import all_docs
    from lab_core.configs.classes.spec import spec_of

    found = spec_of(configs_class).schema
    return found.with_docs(
        inspect.cleandoc(configs_class.__dict__.get("__doc__") or ""),
        all_docs(configs_class),
    )

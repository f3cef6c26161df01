"""Experiments and their configs, as the server describes them: frozen values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

PlainValue: TypeAlias = "bool | int | float | str | Sequence[PlainValue] | None"
"""What a config message can carry."""

RunOrder: TypeAlias = Sequence["str | Sequence[str]"]
"""What to compute first: names, or groups of names whose order does not matter."""


class ValueOrigin(StrEnum):
    """Where a planned value comes from."""

    DEFAULT = "default"
    OVERRIDE = "override"
    OPTION = "option"
    COMPUTED = "computed"


@dataclass(frozen=True, slots=True)
class Constraint:
    """One constraint on a value, such as `ge 1`.

    Attributes:
        rule: "ge", "gt", "le", "lt", "min_length", "max_length", "multiple_of" or "choice".
        operand: what the rule compares with; for "choice" the allowed values.
    """

    rule: str
    operand: PlainValue


@dataclass(frozen=True, slots=True)
class ConfigItem:
    """One item of an experiment's configs.

    Attributes:
        key: dotted for an item of a nested module.
        type: as text: "int", "float", "list[int]"; "object" for what a message cannot set.
        default: the default, when it is a plain value.
        options: names of the options that compute it, the default one first.
        doc: what it is for.
        constraints: what a value must fulfil.
        is_hyperparam: marked as a hyper-parameter.
        is_required: has no default and must be set if anything needs it.
    """

    key: str
    type: str
    default: PlainValue
    options: tuple[str, ...]
    doc: str
    constraints: tuple[Constraint, ...]
    is_hyperparam: bool
    is_required: bool


@dataclass(frozen=True, slots=True)
class ExperimentInfo:
    """An experiment as a list shows it.

    Attributes:
        name: the name by which runs ask for it.
        summary: the first line of its documentation.
        error: why it cannot be run; empty when it can.
        traceback: where its import failed; empty when it did not.
    """

    name: str
    summary: str
    error: str
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class ExperimentSchema:
    """The schema of an experiment's configs.

    Attributes:
        doc: the whole documentation.
        items: in the order of their declaration.
        run_targets: names of methods that a run order may name.
        default_run_order: what is computed first when the config message does not say.
    """

    doc: str
    items: tuple[ConfigItem, ...]
    run_targets: tuple[str, ...]
    default_run_order: tuple[tuple[str, ...], ...]

    def __getitem__(self, key: str) -> ConfigItem:
        for item in self.items:
            if item.key == key:
                return item
        raise KeyError(key)


@dataclass(frozen=True, slots=True)
class PlanItem:
    """One item of a resolved config.

    Attributes:
        key: dotted for a nested item.
        value: the value, when it is known before the run.
        origin: where it comes from.
        option: the chosen option; empty when no option computes the item.
        other_options: the options that were not chosen.
        is_hyperparam: counts as a hyper-parameter of the run.
    """

    key: str
    value: PlainValue
    origin: ValueOrigin
    option: str
    other_options: tuple[str, ...]
    is_hyperparam: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """A config message resolved: every item with its value and origin.

    Attributes:
        start_step: the global step at which the run starts: that of a fork's checkpoint, else 0.
        total_steps: the global step at which a fork ends, None if its configs do not tell; counted from
            step 0, as epochs are.

    Example:
        >>> from lab_client import Client
        >>> with Client() as client:  # doctest: +SKIP
        ...     print(client.plan("mnist", {"epochs": 1}).values["epochs"])
        1
    """

    experiment: str
    items: tuple[PlanItem, ...]
    run_order: tuple[tuple[str, ...], ...]
    hash: str
    start_step: int = 0
    total_steps: int | None = None

    @property
    def values(self) -> dict[str, PlainValue]:
        """The value of every item that is known before the run, or its option's name, by key."""
        return {
            item.key: item.option or item.value
            for item in self.items
            if item.option or item.origin in (ValueOrigin.DEFAULT, ValueOrigin.OVERRIDE)
        }

    @property
    def hyperparams(self) -> dict[str, PlainValue]:
        """The values of the items that count as hyper-parameters, by key."""
        return {item.key: item.option or item.value for item in self.items if item.is_hyperparam}

    def __getitem__(self, key: str) -> PlanItem:
        for item in self.items:
            if item.key == key:
                return item
        raise KeyError(key)

"""Resolve a config class for a run: apply the overrides, check everything, compute the run order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, overload

from lab_core.configs.classes.spec import Spec, spec_of
from lab_core.configs.classes.unions import member_problem
from lab_core.configs.instances.base import BaseConfigs
from lab_core.configs.instances.checks import run_checks
from lab_core.configs.instances.from_dict import configs_from_dict
from lab_core.configs.schema.choices import Chooser
from lab_core.configs.schema.suggest import shown
from lab_core.configs.schema.validate import (
    aggregate_problems,
    checked_message,
    clean_run_order,
    clean_values,
    default_problems,
    missing_in_run_order,
    partially_overridden_groups,
)
from lab_core.errors import ConfigError, Violation

C = TypeVar("C", bound=BaseConfigs)
RunOrder = Sequence[str | Sequence[str]]


@overload
def calculate(
    configs: C | type[C],
    overrides: Mapping[str, Any] | None = None,
    run_order: RunOrder | None = None,
    *,
    coerce_strings: bool = False,
    before_computing: Callable[[BaseConfigs], object] | None = None,
) -> C: ...
@overload
def calculate(
    configs: Mapping[str, Any],
    overrides: Mapping[str, Any] | None = None,
    run_order: RunOrder | None = None,
    *,
    coerce_strings: bool = False,
    before_computing: Callable[[BaseConfigs], object] | None = None,
) -> BaseConfigs: ...
def calculate(
    configs: BaseConfigs | type[BaseConfigs] | Mapping[str, Any],
    overrides: Mapping[str, Any] | None = None,
    run_order: RunOrder | None = None,
    *,
    coerce_strings: bool = False,
    before_computing: Callable[[BaseConfigs], object] | None = None,
) -> BaseConfigs:
    """Apply and check the overrides, compute the run order, and return the config instance.

    Args:
        configs: an instance, a class, or a plain dict of values.
        overrides: values by key, dotted or in nested dicts; objects too when called from code.
        run_order: items to compute, in this order; run targets in it are looked up, not called.
        coerce_strings: convert strings from a command line to the items' types.
        before_computing: called with the checked instance, before anything is computed.

    Raises:
        ConfigError: With all violations at once, before anything is computed; also if an item that
            the run order needs has no value or depends on itself.
    """
    conf = _instance(configs)
    state = conf._lab_state
    spec = state.spec
    given = flatten(spec, checked_message(overrides))
    clean, order, problems = _validate(spec, given, state.assigned, run_order, coerce_strings)
    late = [state.after_read(k) for k, v in clean.items() if not state.is_overridden(k, v)]
    problems += [p for p in late if p is not None]
    if problems:
        raise ConfigError(problems)
    state.override(clean)
    state.run_order = order
    if before_computing is not None:
        before_computing(conf)
    for name in order:
        if name in spec.sources:
            state.read(name)
    return conf


def _instance(configs: object) -> BaseConfigs:
    if isinstance(configs, Mapping):
        return configs_from_dict(configs)
    if isinstance(configs, BaseConfigs):
        return configs
    if isinstance(configs, type) and issubclass(configs, BaseConfigs):
        return configs()
    sentence = "configs must be a config class, an instance of one or a dict, got "
    raise ConfigError([Violation("", sentence + shown(configs))])


def check(
    configs_class: type[BaseConfigs],
    overrides: Mapping[str, Any] | None = None,
    run_order: RunOrder | None = None,
    *,
    coerce_strings: bool = False,
) -> tuple[Violation, ...]:
    """Return all violations of a config message, those of the class's own checks included.

    Computes only the plain items that checks read.
    """
    try:
        spec = spec_of(configs_class)
    except ConfigError as error:
        return error.violations
    given = flatten(spec, checked_message(overrides))
    _, _, problems = _validate(spec, given, {}, run_order, coerce_strings)
    return tuple(problems)


def _validate(
    spec: Spec,
    given: Mapping[str, Any],
    assigned: Mapping[str, Any],
    run_order: RunOrder | None,
    coerce_strings: bool,
) -> tuple[dict[str, Any], tuple[str, ...], list[Violation]]:
    schema = spec.schema

    def accept_object(key: str, value: Any) -> bool:
        info, nested = spec.sources[key].info, spec.sources[key].nested
        if nested is not None:
            return isinstance(value, nested)
        if info.cls is None:
            return info.text.startswith("object") and not isinstance(value, str)
        try:
            return isinstance(value, info.cls)
        except TypeError:  # a protocol that cannot be checked
            return True

    clean, problems = clean_values(
        schema, given, coerce_strings=coerce_strings, accept_object=accept_object
    )
    problems += _member_problems(spec, clean)
    not_overridden = {k: v for k, v in assigned.items() if k not in given}
    cleaned_assigned, wrong = clean_values(schema, not_overridden, accept_object=accept_object)
    problems += wrong + _member_problems(spec, cleaned_assigned)
    order, wrong = clean_run_order(schema, run_order)
    chooser = Chooser(schema, clean, cleaned_assigned)
    everything = {**assigned, **given}
    problems += wrong
    problems += default_problems(schema, everything)
    problems += aggregate_problems(schema, chooser)
    broken = {p.key for p in problems}
    if not problems:
        problems += partially_overridden_groups(schema, chooser, everything)
        problems += missing_in_run_order(schema, chooser, order)
    problems += run_checks(spec, clean, cleaned_assigned, broken)
    return clean, order, problems


def _member_problems(spec: Spec, clean: Mapping[str, Any]) -> list[Violation]:
    """Return the violations of bounds that a schema cannot tell: those of single members of a union."""
    return [
        Violation(key, f"{key} {problem}")
        for key, value in clean.items()
        if not (isinstance(value, str) and value in spec.sources[key].options)
        and (problem := member_problem(spec.sources[key].info, value))
    ]


def flatten(spec: Spec, overrides: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return overrides with dotted keys; dicts for nested configs are flattened."""
    flat: dict[str, Any] = {}
    for name, value in overrides.items():
        key = f"{prefix}{name}"
        source = spec.sources.get(key)
        if isinstance(value, Mapping) and source is not None and source.nested is not None:
            flat.update(flatten(spec, value, f"{key}."))
        else:
            flat[key] = value
    return flat

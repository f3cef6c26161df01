"""What a search may ask for, held against the experiment's schema; all that is wrong at once."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

from lab_core.configs import PlainValue, Schema, SchemaItem, plan
from lab_core.errors import ConfigError, Violation
from lab_server.model.domain import (
    Anything,
    Choice,
    Domain,
    FloatRange,
    IntRange,
    as_in,
    contains,
)
from lab_server.model.search import Sampler, SearchSpec
from lab_server.search import grid

MAX_TRIALS = 100_000
MAX_CHOICES = 1000


def resolve(
    schema: Schema, spec: SearchSpec, *, may_be_grid: bool
) -> tuple[SearchSpec, list[Violation]]:
    """Return what is asked for with what the schema fills in, and what is wrong with it.

    Args:
        schema: of the experiment.
        spec: may leave items open to all that the schema allows.
        may_be_grid: its sampler is open: a space that is choices only becomes a grid.
    """
    problems: list[Violation] = []
    space: dict[str, Domain] = {}
    for key, domain in spec.space.items():
        item = schema.by_key.get(key)
        if item is None:
            problems.append(Violation(key, _unknown(schema, key)))
            continue
        if key in spec.fixed:
            problems.append(Violation(key, f"{key!r} is both searched and given a value"))
        found = _whole(item) if isinstance(domain, Anything) else domain
        if isinstance(found, str):
            problems.append(Violation(key, found))
            continue
        wrong = shape_problem(found)
        problems += [Violation(key, f"{key}: {wrong}")] if wrong else _refused(schema, key, found)
        space[key] = found
    problems += _fixed_problems(schema, spec, space)
    spec = replace(spec, space=space)
    if may_be_grid and all(isinstance(domain, Choice) for domain in space.values()):
        spec = replace(spec, sampler=Sampler.GRID)
    if not problems:
        problems += _grid_problems(spec)
    if not problems and spec.sampler is Sampler.GRID and not spec.budget.max_trials:
        spec = replace(spec, budget=replace(spec.budget, max_trials=grid.size(space)))
    return spec, problems


def point_of(spec: SearchSpec, params: Mapping[str, PlainValue]) -> dict[str, PlainValue]:
    """Return a point that is to be enqueued, with values as the search has them."""
    return {key: as_in(spec.space.get(key, Anything()), value) for key, value in params.items()}


def point_problems(
    spec: SearchSpec, index: int, point: Mapping[str, PlainValue]
) -> list[Violation]:
    """Return what is wrong with a point that is to be enqueued."""
    field = f"points[{index}]"
    if not point:
        return [Violation(field, f"{field} must set at least one item")]
    problems = []
    for key, value in point.items():
        domain = spec.space.get(key)
        if domain is None:
            searched = ", ".join(spec.space)
            problems.append(Violation(field, f"{key!r} is not searched; the search has {searched}"))
        elif not contains(domain, value):
            problems.append(
                Violation(field, f"{key}={value!r} is not in what is searched: {shown(domain)}")
            )
    if spec.sampler is Sampler.GRID and len(point) < len(spec.space):
        missing = ", ".join(key for key in spec.space if key not in point)
        problems.append(
            Violation(field, f"with a grid a point sets every item; missing: {missing}")
        )
    return problems


def shape_problem(domain: Domain) -> str:
    """Return what is wrong with a domain by itself, "" if nothing is."""
    match domain:
        case Choice(values):
            return _choice_problem(values)
        case FloatRange(low, high, step, is_log):
            if not all(map(math.isfinite, (low, high, step))):
                return f"a range has finite bounds, got {low} to {high}"
            return _range_problem(low, high, step, is_log)
        case IntRange(low, high, step, is_log):
            if step < 1:
                return f"a step must be at least 1, got {step}"
            return _range_problem(low, high, 0 if step == 1 else step, is_log)
        case Anything():
            return ""


def shown(domain: Domain) -> str:
    """Return a domain as people read it."""
    match domain:
        case Choice(values):
            return ", ".join(map(repr, values[:10])) + (", ..." if len(values) > 10 else "")
        case FloatRange(low, high, step, is_log) | IntRange(low, high, step, is_log):
            steps = (
                f" in steps of {step}"
                if step not in (0, 1) or (isinstance(step, float) and step)
                else ""
            )
            return f"{low} to {high}{steps}{', on a log scale' if is_log else ''}"
        case Anything():
            return "all that the schema allows"


def _choice_problem(values: tuple[PlainValue, ...]) -> str:
    if not values:
        return "a choice needs at least one value"
    if len(values) > MAX_CHOICES:
        return f"a choice may have at most {MAX_CHOICES} values, got {len(values)}"
    seen = [(type(value), value) for value in values]
    twice = next((v for place, v in enumerate(seen) if v in seen[:place]), None)
    return f"a choice has each value once, {twice[1]!r} is there twice" if twice else ""


def _range_problem(low: float, high: float, step: float, is_log: bool) -> str:
    if low > high:
        return f"a range goes from low to high, got {low} to {high}"
    if step < 0:
        return f"a step must not be negative, got {step}"
    if is_log and low <= 0:
        return f"a log-scale range begins above 0, got {low}"
    if is_log and step:
        return "a log-scale range has no step"
    return ""


def _whole(item: SchemaItem) -> Domain | str:
    """Return all that a schema allows for an item, or why that cannot be searched."""
    choices = item.constraints.get("choices")
    if isinstance(choices, list) and _are_all(choices, item.type):
        return Choice(tuple(choices))
    if item.options:
        return Choice(item.options)
    if item.type == "bool":
        return Choice((False, True))
    low, high = item.constraints.get("ge"), item.constraints.get("le")
    if isinstance(low, int | float) and isinstance(high, int | float):
        if item.type == "int":
            return IntRange(int(low), int(high))
        if item.type == "float":
            return FloatRange(float(low), float(high))
    return (
        f"{item.key!r} has neither options nor both a least and a largest value;"
        " say which values to search"
    )


def _are_all(choices: list[PlainValue], type_text: str) -> bool:
    """Return whether a type has no other values: "str | int" has, with choices of one of them."""
    kinds = {"None" if choice is None else type(choice).__name__ for choice in choices}
    return set(type_text.split(" | ")) <= kinds


def _refused(schema: Schema, key: str, domain: Domain) -> list[Violation]:
    """Return what the schema says against the values of a domain; of a range, against its ends."""
    values: Iterable[PlainValue]
    match domain:
        case Choice(values):
            pass
        case IntRange(low, high, step, _):
            values = (low, high) if step == 1 else (low, low + step, high)
        case FloatRange(low, high, step, _):
            values = (low, low + step, high) if step else (low, high)
        case _:
            values = ()
    found: dict[str, Violation] = {}
    for value in values:
        for violation in _violations(schema, {key: value}):
            if violation.key == key:
                found[str(violation)] = violation
    return list(found.values())


def _fixed_problems(
    schema: Schema, spec: SearchSpec, space: Mapping[str, Domain]
) -> list[Violation]:
    """Return what is wrong with what is the same for all trials."""
    first = {key: _first(domain) for key, domain in space.items()}
    fixed = {key: value for key, value in spec.fixed.items() if key not in spec.space}
    order = [list(group) for group in spec.run_order] or None
    found = _violations(schema, {**fixed, **first}, order)
    return [violation for violation in found if violation.key not in space]


def _violations(
    schema: Schema,
    overrides: Mapping[str, PlainValue],
    run_order: list[list[str]] | None = None,
) -> tuple[Violation, ...]:
    try:
        plan(schema, overrides, run_order)
    except ConfigError as error:
        return error.violations
    return ()


def _first(domain: Domain) -> PlainValue:
    match domain:
        case Choice(values):
            return values[0] if values else None
        case FloatRange(low) | IntRange(low):
            return low
        case Anything():
            return None


def _grid_problems(spec: SearchSpec) -> list[Violation]:
    if spec.sampler is not Sampler.GRID:
        return []
    endless = [key for key, domain in spec.space.items() if not grid.num_values(domain)]
    if endless:
        return [
            Violation(key, f"a grid needs a list of values for {key!r}, not a range")
            for key in endless
        ]
    size = grid.size(spec.space)
    if not spec.budget.max_trials and size > MAX_TRIALS:
        message = f"the grid has {size} points; say how many of them to try, at most {MAX_TRIALS}"
        return [Violation("budget.max_trials", message)]
    return []


def _unknown(schema: Schema, key: str) -> str:
    close = difflib.get_close_matches(key[:100], schema.by_key, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"unknown config {key[:100]!r}{hint}"

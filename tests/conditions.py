"""What a condition says of a run, in plain Python: what the SQL of the store is held against."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from lab_server.model.run import Run, RunState
from lab_server.where import AllOf, AnyOf, Compare, Condition, Kind, Name, Not

_STATES = list(RunState)
_MISSING = object()
_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def holds(run: Run, condition: Condition, now_ns: int) -> bool:
    """Whether a condition holds for a run."""
    match condition:
        case Not(condition=inner):
            return not holds(run, inner, now_ns)
        case AllOf(conditions=several):
            return all(holds(run, one, now_ns) for one in several)
        case AnyOf(conditions=several):
            return any(holds(run, one, now_ns) for one in several)
        case Compare(name=name, operator=sign, operand=operand):
            if name.kind is Kind.TAGS:
                tags = run.request.tags
                return (
                    any(_test(sign, t, operand) for t in tags) if operand is not None else not tags
                )
            value = value_of(run, name, now_ns)
            if operand is None:
                return value in (_MISSING, None) or (name.kind is Kind.TEXT and not value)
            return _test(sign, value, operand)


def sort_keys(run: Run, name: Name, now_ns: int) -> tuple[float | None, str | None]:
    """What a run is ordered by, as a number or as a text; None where it does not have it."""
    value = value_of(run, name, now_ns)
    if name.kind is Kind.STATE:
        return _STATES.index(RunState(value)), None
    if isinstance(value, str):
        return None, value
    is_number = isinstance(value, int | float) and value == value
    return (value if is_number else None), None


def value_of(run: Run, name: Name, now_ns: int) -> Any:
    """What a name stands for in a run; `_MISSING` where it does not have it."""
    match name.kind:
        case Kind.CONFIG:
            return run.configs.get(name.key, _MISSING)
        case Kind.METRIC if name.part != "last":
            extremes = run.extremes.get(name.key)
            return _MISSING if extremes is None else extremes[name.part == "max"]
        case Kind.METRIC:
            return run.metrics.get(name.key, _MISSING)
        case Kind.VALUE:
            return run.configs.get(name.key, run.metrics.get(name.key, _MISSING))
    value = _field(run, name.key, now_ns)
    return _MISSING if value is None else value


def _field(run: Run, key: str, now_ns: int) -> Any:
    request, parent, trial = run.request, run.request.parent, run.request.trial
    started, ended = run.start_time_ns, run.end_time_ns
    special = {
        "state": run.state.value,
        "create_time": run.create_time_ns,
        "start_time": started or None,
        "end_time": ended or None,
        "age": (now_ns - run.create_time_ns) / 1e9,
        "duration": ((ended or now_ns) - started) / 1e9 if started else None,
        "priority": request.options.priority,
        "device": request.options.device,
        "parent": parent.run_id if parent else None,
        "search": trial.search_id if trial else None,
        "trial": trial.number if trial else None,
        "name": request.name,
        "notes": request.notes,
    }
    return special[key] if key in special else getattr(run, key)


def _test(sign: str, value: Any, operand: Any) -> bool:
    if isinstance(operand, float) and math.isnan(operand):
        return isinstance(value, float) and math.isnan(value)
    if _type(value) is not _type(operand):
        return False
    return _TESTS[sign](value, operand)


def _type(value: Any) -> type:
    return float if type(value) is int else type(value)


_TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "~": lambda value, text: text.translate(_LOWER) in value.translate(_LOWER),
}

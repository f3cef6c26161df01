"""What a name stands for in a run: a field of its own, a config, a metric."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypeAlias

from lab_client.configs import PlainValue
from lab_client.errors import InvalidRequest, Violation
from lab_client.runs import RunInfo
from lab_rpc.run_names import Kind, Name, parse_name

RunValue: TypeAlias = "PlainValue | datetime"


def value_of(info: RunInfo, text: str) -> RunValue:
    """Return what a text names in a run, None where the run does not have it.

    Raises:
        InvalidRequest: if the text names nothing.
    """
    name = parse_name(text)
    if name is None:
        sentence = (
            f"{text!r} names nothing of a run; write learning_rate, duration or max(accuracy)"
        )
        raise InvalidRequest([Violation("columns", sentence)])
    match name.kind:
        case Kind.CONFIG:
            return info.configs.get(name.key)
        case Kind.METRIC:
            return _metric(info, name)
        case Kind.VALUE:
            return info.configs[name.key] if name.key in info.configs else _metric(info, name)
    return _field(info, name.key)


def _metric(info: RunInfo, name: Name) -> float | None:
    if name.part == "last":
        return info.metrics.get(name.key)
    found = info.metric_ranges.get(name.key)
    if found is None:
        return None
    return found.min_value if name.part == "min" else found.max_value


def _field(info: RunInfo, key: str) -> RunValue:
    match key:
        case "priority" | "device":
            return info.options.priority if key == "priority" else info.options.device
        case "parent":
            return info.parent.run_id if info.parent else None
        case "search":
            return info.trial.search_id if info.trial else None
        case "trial":
            return info.trial.number if info.trial else None
        case "age":
            return _seconds(info.create_time, datetime.now(UTC))
        case "duration":
            return _seconds(info.start_time, info.end_time or datetime.now(UTC))
    found: RunValue = getattr(info, key)
    return found


def _seconds(start: datetime | None, end: datetime) -> float | None:
    return None if start is None else (end - start).total_seconds()

"""What a run can be asked for by name: its own fields, its configs, its metrics.

One definition for the server, which finds and orders runs by it, and the client, which shows them.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Part = Literal["last", "min", "max"]
PARTS: Final[Mapping[str, Part]] = {"last": "last", "min": "min", "max": "max"}


class Kind(enum.Enum):
    """What a name stands for, and so what it is compared with."""

    TEXT = "a text"
    STATE = "a state"
    TAGS = "a set of tags"
    NUMBER = "a number"
    TIME = "a time"
    DURATION = "a duration"
    METRIC = "a metric"
    CONFIG = "a config"
    VALUE = "a config or a metric"


FIELDS: Final[Mapping[str, Kind]] = {
    "id": Kind.TEXT,
    "name": Kind.TEXT,
    "experiment": Kind.TEXT,
    "state": Kind.STATE,
    "tags": Kind.TAGS,
    "owner": Kind.TEXT,
    "notes": Kind.TEXT,
    "reason": Kind.TEXT,
    "step": Kind.NUMBER,
    "total_steps": Kind.NUMBER,
    "attempt": Kind.NUMBER,
    "checkpoint_step": Kind.NUMBER,
    "priority": Kind.NUMBER,
    "device": Kind.TEXT,
    "slot": Kind.TEXT,
    "parent": Kind.TEXT,
    "search": Kind.TEXT,
    "trial": Kind.NUMBER,
    "config_hash": Kind.TEXT,
    "create_time": Kind.TIME,
    "start_time": Kind.TIME,
    "end_time": Kind.TIME,
    "age": Kind.DURATION,
    "duration": Kind.DURATION,
}
"""A run's own fields. They win over configs and metrics of the same name."""

_BARE: Final = re.compile(r"[^\W\d][^\s<>=~!(),;\[\]\"']*")
_ALIASES: Final[Mapping[str, str]] = {
    "tag": "tags",
    "created": "create_time",
    "started": "start_time",
    "ended": "end_time",
}
SPACES: Final[Mapping[str, Kind]] = {
    "config": Kind.CONFIG,
    "configs": Kind.CONFIG,
    "metric": Kind.METRIC,
    "metrics": Kind.METRIC,
}


@dataclass(frozen=True, slots=True)
class Name:
    """Something of a run.

    Attributes:
        kind: what it is; VALUE is the run's config of that key, else its metric.
        key: the field's name, the config's key or the metric's name.
        part: of a metric: its last value, or the smallest or largest finite one.
    """

    kind: Kind
    key: str
    part: Part = "last"


CREATE_TIME: Final = Name(Kind.TIME, "create_time")


def named(key: str) -> Name:
    """Return what a name without a space stands for: a field of the run, else a config or metric."""
    key = _ALIASES.get(key, key)
    return Name(FIELDS.get(key, Kind.VALUE), key)


def parse_name(text: str) -> Name | None:
    """Return what a text alone names, such as an order; None when it names nothing.

    Examples: `step`, `learning_rate`, `config.step`, `metric.valid loss`, `max(accuracy)`.
    """
    text = text.strip()
    function, is_call, inner = text.partition("(")
    if is_call and inner.endswith(")") and function.strip() in PARTS:
        found = parse_name(inner[:-1])
        if found is None or found.kind not in (Kind.METRIC, Kind.VALUE) or found.part != "last":
            return None
        return Name(Kind.METRIC, found.key, PARTS[function.strip()])
    space, dot, key = text.partition(".")
    if dot and space in SPACES:
        return Name(SPACES[space], key) if key else None
    return named(text) if _BARE.fullmatch(text) else None

"""Runs as lines of a table: which configs and metrics have a column, and what is in it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lab_rpc.metric_names import matcher
from lab_rpc.v1 import config_pb2, run_pb2
from lab_server.messages.runs import STATES_FROM_PROTO
from lab_server.messages.values import value_from_proto
from lab_server.model.run import RunState
from lab_server.pages.render import config_text, number

MAX_CONFIGS: Final = 6
MAX_METRICS: Final = 3
_MAX_TEXT: Final = 60
_UNKNOWN: Final = ""
_FRACTION: Final = re.compile(r"-?\d+\.\d+(e[+-]?\d+)?")


@dataclass(frozen=True, slots=True)
class Line:
    """A run as a line.

    Attributes:
        percent: how far it is, None when nobody knows.
        configs, metrics: the texts of the columns.
    """

    run: run_pb2.Run
    state: RunState
    percent: float | None
    configs: Sequence[str]
    metrics: Sequence[str]


@dataclass(frozen=True, slots=True)
class GroupLine:
    """Runs of equal configs, but for some, as a line.

    Attributes:
        configs: the texts of the columns.
        metrics: of each metric the mean and the standard deviation.
    """

    run_ids: Sequence[str]
    configs: Sequence[str]
    metrics: Sequence[str]


def line_of(run: run_pb2.Run, keys: Sequence[str], metrics: Sequence[str]) -> Line:
    """Return a run's line."""
    return Line(
        run,
        STATES_FROM_PROTO[run.state],
        percent_of(run),
        [short(config_of(run, key)) for key in keys],
        [number(run.metrics[name]) if name in run.metrics else _UNKNOWN for name in metrics],
    )


def short(text: str) -> str:
    """Return a config's text for a narrow column: a long fraction with six significant digits, other texts cut."""
    if len(text) > 8 and _FRACTION.fullmatch(text) and not float(text).is_integer():
        return f"{float(text):.6g}"
    return text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT - 1]}…"


def percent_of(run: run_pb2.Run) -> float | None:
    """Return how many percent of its steps a run has done, None when nobody knows."""
    if STATES_FROM_PROTO[run.state] is RunState.COMPLETED:
        return 100.0
    return min(100.0, 100 * run.step / run.total_steps) if run.total_steps else None


def differing_keys(runs: Iterable[run_pb2.Run]) -> list[str]:
    """Return the keys of configs that do not have the same value in all runs, those of most values first."""
    runs = list(runs)
    values: dict[str, set[str]] = {}
    for run in runs:
        for key in run.config.overrides:
            values.setdefault(key, set())
    for key, found in values.items():
        found.update(config_of(run, key) for run in runs)
    differing = {key: found for key, found in values.items() if len(found) > 1}
    return sorted(differing, key=lambda key: (-len(differing[key]), key))


def main_metrics(runs: Iterable[run_pb2.Run], num: int = MAX_METRICS) -> list[str]:
    """Return the metrics that a table has room for: losses and accuracies first.

    Indicators of single parameters, "model.conv1.weight", only if there is nothing else; what a run uses
    of its machine, "system.cpu_cores", never.
    """
    counts: dict[str, int] = {}
    for run in runs:
        for name in run.metrics:
            counts[name] = counts.get(name, 0) + 1
    tracked = list(filter(matcher(()), counts))
    plain = [name for name in tracked if name.count(".") < 2] or tracked

    def rank(name: str) -> tuple[int, int, str]:
        lowered = name.lower()
        return 0 if "loss" in lowered else 1 if "acc" in lowered else 2, -counts[name], name

    return sorted(plain, key=rank)[:num]


def group_lines(
    runs: Sequence[run_pb2.Run], group: str, metrics: Sequence[str]
) -> tuple[list[str], list[GroupLine]]:
    """Return the keys by which runs are grouped, and a line for each group.

    Args:
        runs: the runs.
        group: "lr,batch" groups by these configs, "-seed" by all that differ but this one.
        metrics: of the columns.
    """
    names = [name.strip() for name in group.split(",") if name.strip()]
    left_out = {name[1:] for name in names if name.startswith("-")}
    chosen = [name for name in names if not name.startswith("-")]
    keys = chosen or [key for key in differing_keys(runs) if key not in left_out]
    groups: dict[tuple[str, ...], list[run_pb2.Run]] = {}
    for run in runs:
        groups.setdefault(tuple(config_of(run, key) for key in keys), []).append(run)
    lines = [
        GroupLine(
            [run.id for run in members],
            list(map(short, configs)),
            [
                _mean_and_deviation([r.metrics[n] for r in members if n in r.metrics])
                for n in metrics
            ],
        )
        for configs, members in groups.items()
    ]
    return keys, lines


def overrides_of(run: run_pb2.Run) -> Mapping[str, Any]:
    """Return what a run sets, as plain values."""
    return {key: value_from_proto(value) for key, value in run.config.overrides.items()}


def config_of(run: run_pb2.Run, key: str) -> str:
    """Return the text of a config's value, be it set or a default; "" for one that the run does not have."""
    known: Mapping[str, config_pb2.Value]
    for known in (run.config.overrides, run.configs):
        if key in known:
            return config_text(known[key])
    return _UNKNOWN


def _mean_and_deviation(values: Sequence[float]) -> str:
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return _UNKNOWN
    mean = math.fsum(finite) / len(finite)
    if len(finite) < 2:
        return number(mean)
    variance = math.fsum((value - mean) ** 2 for value in finite) / (len(finite) - 1)
    return f"{number(mean)} ± {number(math.sqrt(variance))}"

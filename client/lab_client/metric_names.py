"""Which of a run's metrics matter most, judged by their names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from lab_rpc.metric_names import SYSTEM_PREFIX, matcher

__all__ = ["SYSTEM_PREFIX", "chosen", "important", "main_names"]

_MOST_METRICS = 4


def important(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the few metrics that a line has room for: losses and accuracies first.

    Indicators of single parameters, "model.conv1.weight", are left out when there is anything else.
    """

    def rank(name: str) -> int:
        lowered = name.lower()
        return 0 if "loss" in lowered else 1 if "acc" in lowered else 2

    names = main_names(metrics)
    return {name: metrics[name] for name in sorted(names, key=rank)[:_MOST_METRICS]}


def chosen(metrics: Mapping[str, float], globs: Sequence[str]) -> dict[str, float]:
    """Return the metrics that match one of some globs; the most important ones without any globs."""
    if not globs:
        return important(metrics)
    is_chosen = matcher(globs)
    return {name: value for name, value in metrics.items() if is_chosen(name)}


def main_names(names: Iterable[str]) -> list[str]:
    """Return the names without those of single parameters, unless there are no others.

    Those of what a run uses of its machine are left out, too.
    """
    tracked = [name for name in names if not name.startswith(SYSTEM_PREFIX)]
    return [name for name in tracked if name.count(".") < 2] or tracked

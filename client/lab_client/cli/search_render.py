"""How searches and their trials look on a terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from lab_client.cli.render import ago, number
from lab_client.cli.tables import LONG, fitting
from lab_client.searches import (
    Halving,
    MedianStopping,
    SearchInfo,
    SearchState,
    Trial,
    TrialState,
)
from lab_client.views.search_progress import shown

_STYLES = {
    SearchState.COMPLETED: "green",
    SearchState.FAILED: "red",
    SearchState.STOPPED: "yellow",
    SearchState.RUNNING: "cyan",
    TrialState.COMPLETED: "green",
    TrialState.FAILED: "red",
    TrialState.INFEASIBLE: "red",
    TrialState.PRUNED: "dim",
    TrialState.RUNNING: "cyan",
}
_KEY_WIDTH = 10


def state(value: SearchState | TrialState) -> Text:
    """Return a state in its colour."""
    return Text(value.lower().replace("_", " "), style=_STYLES.get(value, ""))


def searches_table(searches: Sequence[SearchInfo], width: int) -> Table:
    """Return searches as a table that fits a width in characters; what there is no room for it names."""

    def make(given_up: Sequence[str]) -> Table:
        table = Table(box=None, pad_edge=False)
        table.add_column("SEARCH", no_wrap=True, min_width=max(len(info.id) for info in searches))
        for header in ("NAME", "EXPERIMENT"):
            table.add_column(header, overflow="fold")
        for header in ("STATE", "TRIALS"):
            table.add_column(header, no_wrap=True)
        kept = [name for name in ("BEST", "CREATED") if name not in given_up]
        for header in kept:
            table.add_column(header, overflow="fold")
        for info in searches:
            best = info.best
            value = f"{info.metric} {number(best.value)}" if best and best.value is not None else ""
            cells = {"BEST": value, "CREATED": ago(info.create_time)}
            trials = f"{info.num_trials}/{info.budget.max_trials}"
            texts = (info.id, info.name, info.experiment)
            table.add_row(
                *map(Text, texts), state(info.state), trials, *(Text(cells[name]) for name in kept)
            )
        return table

    losses = (["CREATED"], ["CREATED", "BEST"])
    return fitting(make, losses, width, "lab search-status SEARCH")


def search_table(info: SearchInfo) -> Table:
    """Return everything about one search as a table of two columns."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    budget = info.budget
    limits = [_counted(budget.max_trials, "trial"), f"{budget.parallel} at a time"]
    limits += [_counted(budget.max_steps, "step")] if budget.max_steps else []
    limits += [f"{budget.max_seconds:g} s"] if budget.max_seconds else []
    of = f" of {info.num_last}" if info.num_last else ""
    mode = "lockstep" if info.is_lockstep else "async"
    rows: list[tuple[str, str | Text]] = [
        ("id", info.id),
        ("name", Text(info.name)),
        ("experiment", Text(info.experiment)),
        ("state", state(info.state)),
        ("reason", Text(info.reason)),
        (
            "objective",
            f"{'maximize' if info.is_maximized else 'minimize'} {info.metric} ({info.reduction}{of})",
        ),
        ("sampler", f"{info.sampler}, {mode}, seed {info.seed}"),
        ("early stopping", _early_stopping(info)),
        ("warm start", _warm_start(info)),
        ("budget", ", ".join(limits)),
        ("trials", ", ".join(f"{n} {s.lower().replace('_', ' ')}" for s, n in info.counts.items())),
        ("steps", str(info.num_steps)),
        ("tags", Text(" ".join(info.tags))),
        ("notes", Text(info.notes)),
        ("owner", Text(info.owner)),
        ("created", ago(info.create_time)),
        ("ended", ago(info.end_time)),
    ]
    for label, value in rows:
        if str(value):
            table.add_row(label, value)
    table.add_row("space", "")
    for key, domain in info.space.items():
        table.add_row(Text(f"  {key}", style="dim"), Text(str(domain)))
    for key, fixed in info.overrides.items():
        table.add_row(Text(f"  {key}", style="dim"), Text(f"{shown(fixed)} (the same for all)"))
    return table


def trials_table(
    info: SearchInfo,
    trials: Sequence[Trial],
    best: Trial | None,
    width: int,
    limit: int | None = None,
) -> Table:
    """Return trials as a table that fits a width in characters; what there is no room for it names.

    Args:
        info: the search.
        trials: its trials, by number.
        best: the one to mark.
        width: the terminal's.
        limit: how many lines there are room for: the best trial and the last ones, a line each.
    """
    hidden = 0
    if limit is not None and len(trials) > limit:
        kept = list(trials[-limit:])
        if best is not None and best.number < kept[0].number:
            kept = [best, *kept[1:]]
        hidden, trials = len(trials) - len(kept), kept

    def make(given_up: Sequence[str]) -> Table:
        table = _trials_table(info, trials, best, given_up, has_lines=limit is None)
        if hidden:
            table.caption = f"{hidden} more: lab search-status {info.id}"
        return table

    facts: list[str] = [
        name for name in ("REASON", "RUNG", "STEP", "RUN") if name in _facts(info, trials)
    ]
    losses = [facts[:num] for num in range(1, len(facts) + 1)]
    # then items, the last one first
    keys = list(info.space)
    losses += [facts + keys[num:] for num in reversed(range(1, len(keys)))]
    return fitting(make, losses, width, f"lab search-status {info.id} --json")


def _facts(info: SearchInfo, trials: Sequence[Trial]) -> list[str]:
    """Return the columns beside the items and the value that some trial has something in."""
    shown = ["STEP", "RUNG", "RUN"] if isinstance(info.early_stopping, Halving) else ["STEP", "RUN"]
    return [*shown, "REASON"] if any(trial.reason for trial in trials) else shown


def _trials_table(
    info: SearchInfo,
    trials: Sequence[Trial],
    best: Trial | None,
    given_up: Sequence[str],
    *,
    has_lines: bool,
) -> Table:
    keys = [key for key in info.space if key not in given_up]
    facts = [name for name in _facts(info, trials) if name not in given_up]
    table = Table(box=None, pad_edge=False)
    table.add_column("TRIAL", justify="right", no_wrap=True)
    table.add_column("STATE", no_wrap=True)
    for key in keys:
        longest = max((len(shown(trial.params.get(key))) for trial in trials), default=0)
        room = min(max(longest, _KEY_WIDTH), LONG)
        table.add_column(Text(_in_lines(key, room)), overflow="fold", max_width=room)
    table.add_column(Text(info.metric), overflow="fold")
    for name in facts:
        if name == "REASON" and has_lines:
            table.add_column(name, overflow="fold")
        else:
            table.add_column(name, no_wrap=True, max_width=LONG)
    for trial in trials:
        is_best = best is not None and trial.number == best.number
        cells = {
            "STEP": Text(str(trial.step or "")),
            "RUNG": Text(str(trial.rung)),
            "RUN": Text(trial.run_id),
            "REASON": Text(trial.reason.partition("\n")[0], style="dim"),
        }
        table.add_row(
            f"{'★ ' if is_best else ''}{trial.number}",
            state(trial.state),
            *(Text(shown(trial.params.get(key))) for key in keys),
            "" if trial.value is None else number(trial.value),
            *(cells[name] for name in facts),
            style="bold" if is_best else "",
        )
    return table


def _in_lines(key: str, width: int) -> str:
    """Return a key, broken behind its "_" and "." where it is longer than its values."""
    lines = [""]
    for part in re.findall(r"[^_.]*[_.]?", key):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _warm_start(info: SearchInfo) -> str:
    trials = _counted(info.num_taken_over, "trial")
    return f"{trials} of {', '.join(info.warm_start)}" if info.warm_start else ""


def _early_stopping(info: SearchInfo) -> str:
    match info.early_stopping:
        case Halving(min_steps, eta):
            return f"halving from {min_steps} steps on, one in {eta} goes on"
        case MedianStopping(interval, warmup, min_trials):
            return (
                f"median, every {interval} steps from {warmup} on, of {min_trials} trials at least"
            )
        case _:
            return ""

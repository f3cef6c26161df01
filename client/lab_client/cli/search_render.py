"""How searches and their trials look on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lab_client.cli.context import console
from lab_client.cli.render import ago, number
from lab_client.searches import (
    Halving,
    MedianStopping,
    SearchInfo,
    SearchState,
    Trial,
    TrialState,
)
from lab_client.sync.search import Search
from lab_client.views.search_progress import SearchView, shown, waiting

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
_MARGIN_LINES = 8


def state(value: SearchState | TrialState) -> Text:
    """Return a state in its colour."""
    return Text(value.lower().replace("_", " "), style=_STYLES.get(value, ""))


def searches_table(searches: Sequence[SearchInfo]) -> Table:
    """Return searches as a table."""
    table = Table(box=None, pad_edge=False)
    for header in ("SEARCH", "NAME", "EXPERIMENT", "STATE", "TRIALS", "BEST", "CREATED"):
        table.add_column(header, no_wrap=header != "NAME", overflow="fold")
    for info in searches:
        best = info.best
        table.add_row(
            info.id,
            Text(info.name),
            info.experiment,
            state(info.state),
            f"{info.num_trials}/{info.budget.max_trials}",
            f"{info.metric} {number(best.value)}" if best and best.value is not None else "",
            ago(info.create_time),
        )
    return table


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
        ("experiment", info.experiment),
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
        table.add_row(Text(f"  {key}", style="dim"), str(domain))
    for key, fixed in info.overrides.items():
        table.add_row(Text(f"  {key}", style="dim"), f"{shown(fixed)} (the same for all)")
    return table


def trials_table(
    info: SearchInfo, trials: Sequence[Trial], best: Trial | None, limit: int | None = None
) -> Table:
    """Return trials as a table; with a limit the best one and the last ones."""
    hidden = 0
    if limit is not None and len(trials) > limit:
        kept = list(trials[-limit:])
        if best is not None and best.number < kept[0].number:
            kept = [best, *kept[1:]]
        hidden, trials = len(trials) - len(kept), kept
    table = Table(box=None, pad_edge=False)
    table.add_column("TRIAL", justify="right", no_wrap=True)
    table.add_column("STATE", no_wrap=True)
    for key in info.space:
        table.add_column(key, overflow="fold")
    for header in (info.metric, "STEP", "RUNG", "RUN"):
        table.add_column(header, no_wrap=True)
    table.add_column("", overflow="fold")
    for trial in trials:
        is_best = best is not None and trial.number == best.number
        table.add_row(
            f"{'★ ' if is_best else ''}{trial.number}",
            state(trial.state),
            *(shown(trial.params.get(key)) for key in info.space),
            "" if trial.value is None else number(trial.value),
            str(trial.step or ""),
            str(trial.rung) if isinstance(info.early_stopping, Halving) else "",
            trial.run_id,
            Text(trial.reason.partition("\n")[0][:60], style="dim"),
            style="bold" if is_best else "",
        )
    if hidden:
        table.caption = f"{hidden} more: lab search-status {info.id}"
    return table


class LiveSearch(SearchView):
    """A screenful about a search."""

    def __rich__(self) -> RenderableType:
        """Draw it; rich asks a few times a second."""
        info, best = self.info, self.best
        head = Text.assemble((info.name, "bold"), f"  {info.id}  ", state(self.state))
        if self.reason:
            head.append(f"  {self.reason}", style="dim")
        if self.waits_for:
            head.append(f"\n{waiting(self.waits_for)}", style="yellow")
        bar = Table.grid(padding=(0, 1))
        num_running = sum(trial.state is TrialState.RUNNING for trial in self.trials)
        facts = f"{self.num_done}/{self.max_trials} trials ended"
        if num_running:
            facts += f", {num_running} running"
        if best is not None and best.value is not None:
            facts += f"  best {info.metric} {number(best.value)} (trial {best.number})"
        bar.add_row(ProgressBar(total=self.max_trials, completed=self.num_done, width=40), facts)
        room = max(3, console().height - _MARGIN_LINES)
        return Group(head, bar, trials_table(info, self.trials, best, room))


def show_live(search: Search) -> None:
    """Show a search on a terminal until it has ended."""
    view = LiveSearch(search.info)
    with Live(view, console=console(), refresh_per_second=4):
        search.show_progress(view)


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

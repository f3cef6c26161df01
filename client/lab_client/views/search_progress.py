"""How a search's progress is shown: its trials folded from its log, and a bar or lines of them."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import TracebackType
from typing import TextIO

from lab_client.searches import SearchEntry, SearchInfo, SearchState, Trial, TrialState
from lab_client.views.progress import in_notebook, make_bar

_LIVE = (TrialState.RUNNING, TrialState.PAUSED)


class SearchView:
    """Keeps what there is to show of a search; the other views add how.

    Args:
        info: the search as it was when the view was opened, before its first entry.
    """

    def __init__(self, info: SearchInfo) -> None:
        self.info = info
        self.state: SearchState = SearchState.RUNNING
        self.reason = ""
        self.waits_for = ""
        self.max_trials = info.budget.max_trials
        self.trials: list[Trial] = []

    def __enter__(self) -> SearchView:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def num_done(self) -> int:
        """How many trials have come to an end."""
        return sum(trial.state not in _LIVE for trial in self.trials)

    @property
    def best(self) -> Trial | None:
        """The best trial so far: of those trained to the end, if any was."""
        known = [trial for trial in self.trials if trial.value is not None]
        ended = [trial for trial in known if trial.state is TrialState.COMPLETED]
        sign = -1 if self.info.is_maximized else 1
        last = max((trial.rung for trial in known), default=0)
        found = ended or [trial for trial in known if trial.rung == last]
        return min(
            found, key=lambda trial: (sign * (trial.value or 0.0), trial.number), default=None
        )

    def update(self, entry: SearchEntry) -> None:
        """Take an entry in."""
        if entry.trial is not None:
            self._update_trial(entry, entry.trial)
        elif entry.kind == "budget_changed" and entry.budget is not None:
            self.max_trials = entry.budget.max_trials
            if self.state.is_terminal:
                self.state, self.reason = SearchState.RUNNING, ""
        elif entry.kind in _STATES:
            self.state, self.reason = _STATES[entry.kind], entry.reason
        elif entry.kind == "ended" and isinstance(entry.state, SearchState):
            self.state, self.reason = entry.state, entry.reason
            self.trials = [
                replace(trial, state=TrialState.PRUNED)
                if trial.state is TrialState.PAUSED
                else trial
                for trial in self.trials
            ]
        self.show()

    def waits(self, reason: str) -> None:
        """Take in why the search does not go on for now; "" when it does."""
        self.waits_for = reason
        self.show()

    def _update_trial(self, entry: SearchEntry, number: int) -> None:
        if entry.kind == "asked":
            self.trials.append(Trial(number, entry.params))
            return
        trial = self.trials[number]
        match entry.kind:
            case "started":
                trial = replace(trial, run_id=entry.run_id)
            case "promoted":  # also one that was pruned by an end that was not the last
                trial = replace(trial, state=TrialState.RUNNING, rung=entry.rung, reason="")
            case "told" if isinstance(entry.state, TrialState):
                trial = replace(
                    trial,
                    state=entry.state,
                    rung=entry.rung,
                    value=entry.value,
                    step=entry.step,
                    reason=entry.reason,
                )
        self.trials[number] = trial

    def show(self) -> None:
        """Show what there is now."""

    def close(self) -> None:
        """Show the end."""


_STATES = {
    "paused": SearchState.PAUSED,
    "resumed": SearchState.RUNNING,
    "stopping": SearchState.STOPPING,
}


class SearchBar(SearchView):
    """A tqdm bar of trials, in a terminal or a notebook."""

    def __init__(self, info: SearchInfo) -> None:
        super().__init__(info)
        self._bar = make_bar(total=self.max_trials, desc=info.name, unit="trial")

    def waits(self, reason: str) -> None:
        """Say above the bar what the search waits for."""
        super().waits(reason)
        self._bar.write(waiting(reason), file=sys.stderr)

    def show(self) -> None:
        """Move the bar."""
        if self._bar.total != self.max_trials:
            self._bar.reset(total=self.max_trials)
        best = self.best
        if best is not None and best.value is not None:
            self._bar.set_postfix({f"best {self.info.metric}": f"{best.value:.5g}"}, refresh=False)
        self._bar.update(self.num_done - self._bar.n)

    def close(self) -> None:
        """Draw the last state and leave it."""
        self._bar.refresh()
        self._bar.close()


class SearchLines(SearchView):
    """A line for each trial that was told something, where there is no terminal."""

    def __init__(self, info: SearchInfo, out: TextIO) -> None:
        super().__init__(info)
        self._out = out

    def update(self, entry: SearchEntry) -> None:
        """Take an entry in, and print it if it tells what came of something."""
        super().update(entry)
        if entry.kind == "told" and entry.trial is not None:
            self._print(describe(self.trials[entry.trial], self.info.metric))
        elif entry.kind in ("paused", "resumed", "stopping", "ended"):
            self._print(f"search {self.state}{f': {self.reason}' if self.reason else ''}")

    def waits(self, reason: str) -> None:
        """Print what the search waits for."""
        super().waits(reason)
        self._print(waiting(reason))

    def _print(self, line: str) -> None:
        self._out.write(f"{line}\n")
        self._out.flush()


def waiting(reason: str) -> str:
    """Return in one line why a search does not go on for now, or that it does."""
    return f"search waits: {reason}" if reason else "search goes on"


def describe(trial: Trial, metric: str) -> str:
    """Return a trial in one line."""
    params = " ".join(f"{key}={shown(value)}" for key, value in trial.params.items())
    value = "" if trial.value is None else f"  {metric} {trial.value:.5g} at step {trial.step}"
    reason = f"  ({trial.reason})" if trial.reason else ""
    return f"trial {trial.number} {trial.state}  {params}{value}{reason}"


def shown(value: object) -> str:
    """Return a config value in few characters."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def make_search_view(progress: bool, info: SearchInfo) -> SearchView:
    """Return a view: a bar, lines where there is no terminal, or one that shows nothing."""
    if not progress:
        return SearchView(info)
    if sys.stderr.isatty() or in_notebook():
        return SearchBar(info)
    return SearchLines(info, sys.stderr)

"""A search as its log tells it: entries go in, one after the other, and nothing else changes it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from lab_server.model.search import (
    Direction,
    SearchSpec,
    SearchState,
    SearchView,
    TrialState,
    TrialView,
)
from lab_server.model.search_log import (
    Asked,
    BudgetChanged,
    Created,
    Ended,
    Enqueued,
    LogEntry,
    Params,
    Paused,
    Promoted,
    Pruned,
    Resumed,
    Started,
    Stopping,
    TakenOver,
    Told,
)


@dataclass(slots=True)
class Trial:
    """A proposal, and what became of it.

    Attributes:
        num_seen: the proposal knew what trials below this number came to.
        until_step: it trains up to this step now; 0 for its end.
        values: what it was told at each rung.
        pruned: why it is to end early.
        was_told: it has come to a rung or an end at least once.
    """

    number: int
    params: Params
    seed: int
    until_step: int
    num_seen: int = 0
    state: TrialState = TrialState.RUNNING
    rung: int = 0
    value: float | None = None
    step: int = 0
    run_id: str = ""
    reason: str = ""
    values: dict[int, float | None] = field(default_factory=dict)
    pruned: Pruned | None = None

    @property
    def was_told(self) -> bool:
        """Whether it has come to a rung or an end before."""
        return bool(self.values)


class Search:
    """A search, folded from its log. It is the same after the same entries, whoever wrote them when.

    Attributes:
        spec: what was asked for, with the budget as it is now.
        trials: by number.
        running: those that wait or train, by number.
        earlier: what was taken over from earlier searches and runs, with numbers below 0.
        points: what is to be tried before anything is proposed.
        num_drawn: how many trials were proposed, rather than enqueued.
        num_settled: every trial below this number has been told something.
        num_steps: steps of all trials together.
        resume_time_ns: when it last went on after a pause; 0 for never.
        stopping: that it was asked to stop.
    """

    def __init__(self, id: str, owner: str, entries: Sequence[LogEntry]) -> None:
        first = entries[0].entry
        assert isinstance(first, Created), "the first entry of every log"
        self.id, self.owner = id, owner
        self.spec: SearchSpec = first.spec
        self.create_time_ns = entries[0].time_ns
        self.end_time_ns = 0
        self.resume_time_ns = 0
        self.last_seq = 0
        self.state = SearchState.RUNNING
        self.reason = ""
        self.trials: list[Trial] = []
        self.running: dict[int, Trial] = {}
        self.counts: Counter[TrialState] = Counter()
        self.earlier: list[Trial] = []
        self.points: deque[Params] = deque()
        self.num_drawn = 0
        self.num_settled = 0
        self.num_steps = 0
        self.stopping: Stopping | None = None
        self._best_completed: Trial | None = None
        self._best_of_rungs: dict[int, Trial] = {}
        for entry in entries:
            self.apply(entry)

    @property
    def best(self) -> Trial | None:
        """The best trial that was trained to its end; without one, the best of the highest rung."""
        if self._best_completed is not None:
            return self._best_completed
        return self._best_of_rungs[max(self._best_of_rungs)] if self._best_of_rungs else None

    def view(self) -> SearchView:
        """Return the search as people see it."""
        counts = Counter(self.counts)
        if self.state.is_terminal:
            counts[TrialState.PRUNED] += counts.pop(TrialState.PAUSED, 0)
        return SearchView(
            id=self.id,
            owner=self.owner,
            spec=self.spec,
            state=self.state,
            reason=self.reason,
            counts=+counts,
            best=self.trial_view(self.best) if self.best else None,
            num_steps=self.num_steps,
            create_time_ns=self.create_time_ns,
            end_time_ns=self.end_time_ns,
            last_seq=self.last_seq,
            num_taken_over=len(self.earlier),
        )

    def trial_view(self, trial: Trial) -> TrialView:
        """Return a trial as people see it: one that is paused when the search has ended was pruned."""
        is_pruned = self.state.is_terminal and trial.state is TrialState.PAUSED
        return TrialView(
            number=trial.number,
            params=trial.params,
            state=TrialState.PRUNED if is_pruned else trial.state,
            seed=trial.seed,
            rung=trial.rung,
            value=trial.value,
            step=trial.step,
            run_id=trial.run_id,
            reason=trial.reason.replace("paused at", "ended at") if is_pruned else trial.reason,
        )

    def is_better(self, value: float, other: float) -> bool:
        """Return whether a value of the objective is better than another."""
        is_larger_better = self.spec.objective.direction is Direction.MAXIMIZE
        return value > other if is_larger_better else value < other

    def rank(self, value: float | None) -> tuple[bool, float]:
        """Return a key that sorts values from the best to the worst; no value comes last."""
        if value is None:
            return True, 0.0
        return False, -value if self.spec.objective.direction is Direction.MAXIMIZE else value

    def rank_of(self, trial: Trial) -> tuple[bool, float]:
        """Return a key that sorts trials from the best to the worst."""
        return self.rank(trial.value)

    def apply(self, log_entry: LogEntry) -> None:  # noqa: C901 - a case a kind
        """Go on to the next entry."""
        assert log_entry.seq == self.last_seq + 1, "a log has no gaps"
        self.last_seq = log_entry.seq
        match log_entry.entry:
            case Created():
                pass
            case TakenOver() as taken_over:
                self._take_over(taken_over)
            case Asked() as asked:
                self._ask(asked)
            case Started(number, run_id):
                self.trials[number].run_id = run_id
            case Promoted(number, rung, until_step):
                trial = self.trials[number]
                trial.rung, trial.until_step, trial.reason = rung, until_step, ""
                self._move(trial, TrialState.RUNNING)
            case Pruned() as pruned:
                self.trials[pruned.number].pruned = pruned
            case Told() as told:
                self._tell(told)
            case Enqueued(points):
                self.points.extend(points)
            case BudgetChanged(budget):
                self.spec = replace(self.spec, budget=budget)
                if self.state.is_terminal:
                    self._go_on()
            case Paused(reason):
                self.state, self.reason = SearchState.PAUSED, reason
            case Resumed():
                self._go_on()
                self.resume_time_ns = log_entry.time_ns
            case Stopping(_, reason) as stopping:
                self.state, self.reason, self.stopping = SearchState.STOPPING, reason, stopping
            case Ended(state, reason):
                self.state, self.reason, self.end_time_ns = state, reason, log_entry.time_ns

    def _go_on(self) -> None:
        self.state, self.reason, self.end_time_ns, self.stopping = SearchState.RUNNING, "", 0, None

    def _take_over(self, taken_over: TakenOver) -> None:
        for number, taken in enumerate(taken_over.trials, -len(taken_over.trials)):
            trial = Trial(number, taken.params, seed=0, until_step=0, run_id=taken.run_id)
            trial.state, trial.value, trial.values = (
                TrialState.COMPLETED,
                taken.value,
                {0: taken.value},
            )
            self.earlier.append(trial)

    def _ask(self, asked: Asked) -> None:
        assert asked.number == len(self.trials), "trials are numbered in the order of the log"
        halving = self.spec.halving
        trial = Trial(
            asked.number,
            asked.params,
            asked.seed,
            until_step=halving.min_steps if halving else 0,
            num_seen=asked.num_seen,
        )
        if asked.is_enqueued:
            self.points.popleft()
        else:
            self.num_drawn += 1
        self.trials.append(trial)
        self.running[trial.number] = trial
        self.counts[TrialState.RUNNING] += 1

    def _tell(self, told: Told) -> None:
        trial = self.trials[told.number]
        trial.rung, trial.reason = told.rung, told.reason
        trial.values[told.rung] = told.value
        self.num_steps += max(0, told.step - trial.step)
        trial.value, trial.step = told.value, told.step
        self._move(trial, told.state)
        while self.num_settled < len(self.trials) and self.trials[self.num_settled].was_told:
            self.num_settled += 1
        if told.value is not None:
            self._note_best(trial, told.value)
        else:
            self._drop_from_best(trial)

    def _move(self, trial: Trial, state: TrialState) -> None:
        self.counts[trial.state] -= 1
        self.counts[state] += 1
        trial.state = state
        if state is TrialState.RUNNING:
            self.running[trial.number] = trial
        else:
            self.running.pop(trial.number, None)

    def _note_best(self, trial: Trial, value: float) -> None:
        if trial.state is TrialState.COMPLETED:
            best = self._best_completed
            if best is None or self._beats(trial, value, best.number, best.value):
                self._best_completed = trial
        elif trial.state in (TrialState.PAUSED, TrialState.PRUNED):
            best = self._best_of_rungs.get(trial.rung)
            if best is None or self._beats(trial, value, best.number, best.values[trial.rung]):
                self._best_of_rungs[trial.rung] = trial

    def _drop_from_best(self, trial: Trial) -> None:
        """Forget a trial that came to nothing after rungs at which it was the best."""
        for rung in [rung for rung, best in self._best_of_rungs.items() if best is trial]:
            best = self._next_best(rung)
            if best is None:
                del self._best_of_rungs[rung]
            else:
                self._best_of_rungs[rung] = best

    def _next_best(self, rung: int) -> Trial | None:
        values = {
            trial.number: value
            for trial in self.trials
            if trial.value is not None and (value := trial.values.get(rung)) is not None
        }
        best = min(values, key=lambda number: (self.rank(values[number]), number), default=None)
        return None if best is None else self.trials[best]

    def _beats(self, trial: Trial, value: float, number: int, other: float | None) -> bool:
        assert other is not None, "only trials with a value are the best"
        # of equal ones the first, whichever was told first
        return self.is_better(value, other) or (value == other and trial.number < number)

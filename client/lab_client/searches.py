"""Searches and their trials, as the server describes them: frozen values, and what may be searched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from lab_client.configs import PlainValue
from lab_client.runs import RunOptions


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some values; made by `choice`."""

    values: tuple[PlainValue, ...]

    def __str__(self) -> str:
        return ", ".join(map(str, self.values))


@dataclass(frozen=True, slots=True)
class Uniform:
    """A number of a range; made by `uniform` and `log_uniform`."""

    low: float
    high: float
    step: float = 0.0
    is_log: bool = False

    def __str__(self) -> str:
        log, step = "log:" if self.is_log else "", f"/{self.step:g}" if self.step else ""
        return f"{log}{self.low:g}..{self.high:g}{step}"


@dataclass(frozen=True, slots=True)
class IntRange:
    """A whole number of a range; made by `int_range`."""

    low: int
    high: int
    step: int = 1
    is_log: bool = False

    def __str__(self) -> str:
        log, step = "log:" if self.is_log else "", f"/{self.step}" if self.step != 1 else ""
        return f"{log}{self.low}..{self.high}{step}"


@dataclass(frozen=True, slots=True)
class Anything:
    """All that the experiment's schema allows; made by `anything`."""

    def __str__(self) -> str:
        return "*"


Domain: TypeAlias = Choice | Uniform | IntRange | Anything


def choice(*values: PlainValue) -> Choice:
    """Search one of these values.

    Example:
        >>> from lab_client import choice
        >>> str(choice(3, 5))
        '3, 5'
    """
    return Choice(values)


def uniform(low: float, high: float, *, step: float = 0.0) -> Uniform:
    """Search the numbers from low to high, both included.

    Args:
        low: the smallest.
        high: the largest.
        step: the distance of two numbers; 0 when they are continuous.
    """
    return Uniform(float(low), float(high), float(step))


def log_uniform(low: float, high: float) -> Uniform:
    """Search the numbers from low to high, even in the logarithm.

    Example:
        >>> from lab_client import log_uniform
        >>> str(log_uniform(1e-4, 1e-1))
        'log:0.0001..0.1'
    """
    return Uniform(float(low), float(high), is_log=True)


def int_range(low: int, high: int, *, step: int = 1, is_log: bool = False) -> IntRange:
    """Search the whole numbers from low to high, both included.

    Args:
        low: the smallest.
        high: the largest.
        step: the distance of two numbers.
        is_log: even in the logarithm; not with a step.
    """
    return IntRange(low, high, step, is_log)


def anything() -> Anything:
    """Search all that the experiment's schema allows: options, choices, a truth value, a bounded range."""
    return Anything()


@dataclass(frozen=True, slots=True)
class Halving:
    """Successive halving: all trials train for `min_steps`, one in `eta` goes on for `eta` times as many.

    A trial that goes on is bit for bit the trial that was never paused.

    Example:
        >>> from lab_client import Halving
        >>> Halving(min_steps=126).eta
        3
    """

    min_steps: int
    eta: int = 3


@dataclass(frozen=True, slots=True)
class MedianStopping:
    """Stop a trial whose value is worse than the median of the trials before it at the same step.

    Attributes:
        interval_steps: values are compared at multiples of this step.
        warmup_steps: they are compared from this step on.
        min_trials: so many earlier trials must have a value there.

    Example:
        >>> from lab_client import MedianStopping
        >>> MedianStopping(interval_steps=63).min_trials
        5
    """

    interval_steps: int
    warmup_steps: int = 0
    min_trials: int = 5


class SearchState(StrEnum):
    """The state of a search.

    Example:
        >>> from lab_client import SearchState
        >>> [state.value for state in SearchState if state.is_terminal]
        ['COMPLETED', 'STOPPED', 'FAILED']
    """

    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    STOPPING = "STOPPING"
    COMPLETED = "COMPLETED"
    STOPPED = "STOPPED"
    FAILED = "FAILED"

    @property
    def is_terminal(self) -> bool:
        """Whether the search has ended (it may still be extended)."""
        return self in (SearchState.COMPLETED, SearchState.STOPPED, SearchState.FAILED)


class TrialState(StrEnum):
    """The state of a trial.

    PAUSED trials may be promoted to the next rung; PRUNED ones ended early, as others were better or their
    time was over; FAILED and INFEASIBLE ones count as the worst; what a person stopped is LEFT_OUT and says
    nothing about its configs.

    Example:
        >>> from lab_client import TrialState
        >>> TrialState.PAUSED == "PAUSED"
        True
    """

    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    COMPLETED = "COMPLETED"
    PRUNED = "PRUNED"
    FAILED = "FAILED"
    INFEASIBLE = "INFEASIBLE"
    LEFT_OUT = "LEFT_OUT"


@dataclass(frozen=True, slots=True)
class Trial:
    """One proposal of a search, and what became of it.

    Attributes:
        number: from 0.
        params: the values of what is searched, by the item's key.
        state: the state.
        rung: the rung that it has reached or trains for, from 0.
        value: the objective's value; None before there is one.
        step: the step of the value.
        run_id: its run; empty when there is none.
        reason: one sentence: why it is in this state.
        seed: its run's random seed, where the experiment sets none.

    Example:
        >>> from lab_client import Client
        >>> with Client() as client:  # doctest: +SKIP
        ...     for study in client.searches(limit=1):
        ...         for trial in study.trials():
        ...             print(trial.number, trial.params, trial.value)
    """

    number: int
    params: Mapping[str, PlainValue]
    state: TrialState = TrialState.RUNNING
    rung: int = 0
    value: float | None = None
    step: int = 0
    run_id: str = ""
    reason: str = ""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class TakenTrial:
    """What an earlier run came to, which a search learned from.

    Attributes:
        search_id: the search that it was a trial of; empty when it was given as a run.
        run_id: the run.
        params: the values of what is searched, by the item's key.
        value: what the objective of the new search is for it.
    """

    search_id: str
    run_id: str
    params: Mapping[str, PlainValue]
    value: float


@dataclass(frozen=True, slots=True)
class Budget:
    """What a search may cost; 0 means no limit.

    Attributes:
        max_trials: the number of trials in all.
        max_steps: steps of all trials together.
        max_seconds: seconds since the search was created.
        parallel: trials that wait or train at a time.
    """

    max_trials: int
    max_steps: int = 0
    max_seconds: float = 0.0
    parallel: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchInfo:
    """A search as the server knew it when it was asked.

    Attributes:
        id: unique on the server, sortable by time of creation.
        experiment: the experiment's name.
        name: a name for people.
        space: what is searched, by the item's key.
        overrides: values of other items, the same for all trials.
        metric: what the objective is read from.
        is_maximized: whether larger values are better.
        reduction: "last", "best" or "mean" of the last `num_last` values.
        num_last: of how many values the mean is taken.
        sampler: "grid", "random", "quasi_random" or "tpe".
        budget: what it may cost, as it is now.
        seed: seeds the proposals.
        is_lockstep: whether the result does not depend on which trial was faster.
        early_stopping: how trials end early; None when they do not.
        options: how each trial is executed.
        tags: labels, which its trials have, too.
        notes: free text.
        warm_start: ids of the earlier searches and runs that it learned from.
        num_taken_over: how many of their trials it knew from the start.
        owner: who created it; empty on a server without tokens.
        state: the state.
        reason: one sentence: why it is in this state.
        counts: how many trials are in each state that has any.
        best: the best trial so far; None before there is one.
        num_steps: steps of all trials together.
        create_time: when it was created, in UTC.
        end_time: when it ended.
        last_seq: the number of entries in its log.
        warnings: what may be a mistake, as `Client.search` was told.

    Example:
        >>> from lab_client import Client
        >>> with Client() as client:  # doctest: +SKIP
        ...     for search in client.searches(states=["completed"], limit=3):
        ...         print(search.info.name, search.info.best, search.info.counts)
    """

    id: str
    experiment: str
    name: str
    space: Mapping[str, Domain]
    overrides: Mapping[str, PlainValue]
    metric: str
    is_maximized: bool
    reduction: str
    num_last: int
    sampler: str
    budget: Budget
    seed: int
    is_lockstep: bool
    early_stopping: Halving | MedianStopping | None
    options: RunOptions
    tags: tuple[str, ...]
    notes: str
    owner: str
    state: SearchState
    reason: str
    counts: Mapping[TrialState, int]
    best: Trial | None
    num_steps: int
    create_time: datetime | None
    end_time: datetime | None
    last_seq: int
    warm_start: tuple[str, ...] = ()
    num_taken_over: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def num_trials(self) -> int:
        """How many trials there are."""
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchEntry:
    """One entry of a search's log.

    Attributes:
        seq: gap-free from 1 within a search.
        time: when it was written, in UTC.
        kind: "created", "taken_over", "asked", "started", "promoted", "pruned", "told", "enqueued", "budget_changed",
            "paused", "resumed", "stopping" or "ended".
        trial: the number of the trial that it is about; None when it is about the search.
        params: of "asked", the values that are tried.
        points: of "enqueued", the points.
        taken: of "taken_over", what it learned from earlier searches and runs.
        run_id: of "started", the run.
        rung: of "promoted" and "told", the rung.
        until_step: of "promoted", the step at which the trial is compared next; 0 for its end.
        state: of "told" and "ended", the state.
        value: of "told" and "pruned", the objective's value.
        step: of "told" and "pruned", its step.
        budget: of "budget_changed", the new one.
        reason: one sentence: why.
    """

    seq: int
    time: datetime
    kind: str
    trial: int | None = None
    params: Mapping[str, PlainValue] = field(default_factory=dict)
    points: tuple[Mapping[str, PlainValue], ...] = ()
    taken: tuple[TakenTrial, ...] = ()
    run_id: str = ""
    rung: int = 0
    until_step: int = 0
    state: TrialState | SearchState | None = None
    value: float | None = None
    step: int = 0
    budget: Budget | None = None
    reason: str = ""

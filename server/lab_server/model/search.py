"""A search: what was asked for, as values without behaviour of their own."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from lab_core.configs import PlainValue
from lab_server.model.domain import Domain
from lab_server.model.run import RunOptions


class Direction(enum.Enum):
    """Which values of an objective are better."""

    MINIMIZE = "MINIMIZE"
    MAXIMIZE = "MAXIMIZE"


class Reduction(enum.Enum):
    """What a metric's history comes down to."""

    LAST = "LAST"
    BEST = "BEST"
    MEAN = "MEAN"


class Sampler(enum.Enum):
    """What proposes configs. Each is a function of the search's log alone."""

    GRID = "GRID"
    RANDOM = "RANDOM"
    QUASI_RANDOM = "QUASI_RANDOM"
    TPE = "TPE"


class SearchState(enum.Enum):
    """The states of a search."""

    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    STOPPING = "STOPPING"
    COMPLETED = "COMPLETED"
    STOPPED = "STOPPED"
    FAILED = "FAILED"

    @property
    def word(self) -> str:
        """The state in a sentence."""
        return self.value.lower()

    @property
    def is_terminal(self) -> bool:
        """True when no more entries follow, unless the search is extended."""
        return self in (SearchState.COMPLETED, SearchState.STOPPED, SearchState.FAILED)


class TrialState(enum.Enum):
    """The states of a trial; see search.proto."""

    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    COMPLETED = "COMPLETED"
    PRUNED = "PRUNED"
    FAILED = "FAILED"
    INFEASIBLE = "INFEASIBLE"
    LEFT_OUT = "LEFT_OUT"


@dataclass(frozen=True, slots=True)
class Objective:
    """What a search looks for.

    Attributes:
        num_last: with MEAN, of how many values the mean is taken.
    """

    metric: str
    direction: Direction
    reduction: Reduction = Reduction.LAST
    num_last: int = 0


@dataclass(frozen=True, slots=True)
class Halving:
    """Successive halving: one trial in `eta` goes on, for `eta` times as many steps."""

    min_steps: int
    eta: int = 3


@dataclass(frozen=True, slots=True)
class MedianStopping:
    """Stops a trial that is worse than the median of those before it at the same step.

    Attributes:
        interval_steps: values are compared at multiples of this step.
        warmup_steps: they are compared from this step on.
        min_trials: so many earlier ones must have a value there.
    """

    interval_steps: int
    warmup_steps: int = 0
    min_trials: int = 5


@dataclass(frozen=True, slots=True)
class Budget:
    """What a search may cost; 0 means no limit."""

    max_trials: int
    max_steps: int = 0
    max_seconds: float = 0.0
    parallel: int = 1


@dataclass(frozen=True, slots=True)
class SearchSpec:
    """All that a search was asked for.

    Attributes:
        space: what is searched, by the item's key.
        fixed: values of other items, the same for all trials.
        is_lockstep: a proposal depends on the trials before it in a fixed order, not on who was faster.
        warm_start: ids of earlier searches and runs, which it learns from.
    """

    experiment: str
    space: Mapping[str, Domain]
    objective: Objective
    budget: Budget
    sampler: Sampler
    seed: int
    is_lockstep: bool = True
    early_stopping: Halving | MedianStopping | None = None
    fixed: Mapping[str, PlainValue] = field(default_factory=dict)
    run_order: tuple[tuple[str, ...], ...] = ()
    models: tuple[str, ...] = ()
    options: RunOptions = field(default_factory=RunOptions)
    name: str = ""
    tags: tuple[str, ...] = ()
    notes: str = ""
    warm_start: tuple[str, ...] = ()

    @property
    def halving(self) -> Halving | None:
        """Successive halving, if it was asked for."""
        return self.early_stopping if isinstance(self.early_stopping, Halving) else None

    @property
    def median(self) -> MedianStopping | None:
        """Median stopping, if it was asked for."""
        return self.early_stopping if isinstance(self.early_stopping, MedianStopping) else None


@dataclass(frozen=True, slots=True)
class TrialView:
    """A trial as people see it; see Trial in search.proto."""

    number: int
    params: Mapping[str, PlainValue]
    state: TrialState
    seed: int
    rung: int = 0
    value: float | None = None
    step: int = 0
    run_id: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SearchView:
    """A search as people see it; see Search in search.proto. Times are nanoseconds since 1970 UTC.

    Attributes:
        counts: how many trials are in each state that has any.
        num_taken_over: how many it learned of from earlier searches and runs.
    """

    id: str
    owner: str
    spec: SearchSpec
    state: SearchState
    reason: str
    counts: Mapping[TrialState, int]
    best: TrialView | None
    num_steps: int
    create_time_ns: int
    end_time_ns: int
    last_seq: int
    num_taken_over: int = 0


@dataclass(frozen=True, slots=True)
class SearchRecord:
    """A search's row in the store: what lists show and filter by. The rest follows from its log.

    Attributes:
        last_seq: the number of entries in its log.
        summary: its SearchView, encoded, so that a list need not fold logs.
    """

    id: str
    experiment: str
    owner: str
    state: SearchState
    create_time_ns: int
    last_seq: int
    summary: bytes

"""The entries of a search's log. All about a search follows from them; see search.proto."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from lab_core.configs import PlainValue
from lab_server.model.search import Budget, SearchSpec, SearchState, TrialState

Params: TypeAlias = Mapping[str, PlainValue]


@dataclass(frozen=True, slots=True)
class Created:
    """The search was created."""

    spec: SearchSpec


@dataclass(frozen=True, slots=True)
class Taken:
    """What an earlier run came to.

    Attributes:
        search_id: the search that it was a trial of; "" for a run that was asked for by itself.
    """

    search_id: str
    run_id: str
    params: Params
    value: float


@dataclass(frozen=True, slots=True)
class TakenOver:
    """What earlier searches and runs came to was taken over."""

    trials: tuple[Taken, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """A trial was proposed.

    Attributes:
        num_seen: in lockstep, it saw what trials below this number came to.
        seen_seq: else it saw what the log tells up to here.
        sampler: what proposed it, with its version.
    """

    number: int
    params: Params
    seed: int
    num_seen: int = 0
    seen_seq: int = 0
    sampler: str = ""
    is_enqueued: bool = False


@dataclass(frozen=True, slots=True)
class Started:
    """A trial's run was created."""

    number: int
    run_id: str


@dataclass(frozen=True, slots=True)
class Promoted:
    """A paused trial may go on, up to a step; 0 for its end."""

    number: int
    rung: int
    until_step: int


@dataclass(frozen=True, slots=True)
class Pruned:
    """A trial is to end early."""

    number: int
    step: int
    value: float
    reason: str


@dataclass(frozen=True, slots=True)
class Told:
    """A trial has come to a rung or an end.

    Attributes:
        step: the last step that was trained.
        run_seq: up to which event of the run's log the value was read.
    """

    number: int
    rung: int
    state: TrialState
    value: float | None = None
    step: int = 0
    run_seq: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Enqueued:
    """Points were put in front of what is proposed."""

    points: tuple[Params, ...]


@dataclass(frozen=True, slots=True)
class BudgetChanged:
    """The budget was changed."""

    budget: Budget


@dataclass(frozen=True, slots=True)
class Paused:
    """The search was paused."""

    reason: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """The search goes on."""


@dataclass(frozen=True, slots=True)
class Stopping:
    """The search was asked to stop."""

    with_trials: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The search ended."""

    state: SearchState
    reason: str


Entry: TypeAlias = (
    Created
    | TakenOver
    | Asked
    | Started
    | Promoted
    | Pruned
    | Told
    | Enqueued
    | BudgetChanged
    | Paused
    | Resumed
    | Stopping
    | Ended
)


@dataclass(frozen=True, slots=True)
class LogEntry:
    """An entry with its place in the log.

    Attributes:
        seq: gap-free from 1 within a search.
        time_ns: when it was written, Unix time.
    """

    seq: int
    time_ns: int
    entry: Entry

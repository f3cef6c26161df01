"""A run: what was asked for, and what became of it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, Final

from lab_core.configs import PlainValue
from lab_server.model.upload import Upload

OUT_OF_TIME: Final = "stopped: it reached its max_runtime of"
"""Begins the reason of a run that trained as long as it may."""


class RunState(enum.Enum):
    """The states of a run."""

    CREATED = "CREATED"
    QUEUED = "QUEUED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
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
        """True when no more events follow, unless the run is resumed."""
        return self in _TERMINAL

    @property
    def has_process(self) -> bool:
        """True when the run has a slot, and a trainer process or soon one."""
        return self in _WITH_PROCESS


_TERMINAL = frozenset({RunState.COMPLETED, RunState.STOPPED, RunState.FAILED})
_WITH_PROCESS = frozenset({RunState.STARTING, RunState.RUNNING, RunState.STOPPING})


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a run is to be executed; see RunOptions in run.proto."""

    priority: int = 0
    device: str = ""
    max_runtime_s: float = 0.0
    max_retries: int | None = None
    writers: tuple[str, ...] = ()
    pool: str = ""
    final_checkpoint: bool = True


@dataclass(frozen=True, slots=True)
class RunParent:
    """The checkpoint of another run that a run continues."""

    run_id: str
    step: int


@dataclass(frozen=True, slots=True)
class TrialOf:
    """The trial of a search that a run is.

    Attributes:
        search_id: the search.
        number: the trial's, from 0.
        seed: what random numbers are seeded by where the experiment sets no seed.
    """

    search_id: str
    number: int
    seed: int


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What a client, or a search, asked for, as it is stored.

    Attributes:
        upload: the code that has the experiment; None for one of the server's own.
    """

    experiment: str
    overrides: Mapping[str, PlainValue] = field(default_factory=dict)
    run_order: tuple[tuple[str, ...], ...] = ()
    models: tuple[str, ...] = ()
    options: RunOptions = RunOptions()
    name: str = ""
    tags: tuple[str, ...] = ()
    notes: str = ""
    parent: RunParent | None = None
    trial: TrialOf | None = None
    upload: Upload | None = None


@dataclass(frozen=True, slots=True)
class TagChange:
    """What becomes of a run's tags.

    Attributes:
        replaced: all the tags that it is to have; None leaves those that it has.
        added: tags to add behind them.
        removed: tags to remove, as far as it has them.
    """

    replaced: tuple[str, ...] | None = None
    added: tuple[str, ...] = ()
    removed: frozenset[str] = frozenset()

    def of(self, tags: tuple[str, ...]) -> tuple[str, ...]:
        """Return the tags after the change, none twice."""
        wanted = (*(tags if self.replaced is None else self.replaced), *self.added)
        return tuple(tag for tag in dict.fromkeys(wanted) if tag not in self.removed)


@dataclass(frozen=True, slots=True)
class TrainerProcess:
    """A process, identified so that a reused pid is not mistaken for it.

    Attributes:
        pid: the process id, also the id of its session and process group.
        start_ticks: field 22 of /proc/PID/stat, in clock ticks after boot.
        agent: the name of the agent on whose machine it is, "" on the server's own.
    """

    pid: int
    start_ticks: int
    agent: str = ""


@dataclass(frozen=True, slots=True)
class Begun:
    """What the store knows of an attempt that a server began.

    Attributes:
        slot: that it has.
        process: its trainer, None if it was not recorded yet.
        spool_offset: how much of its spool is in the log.
    """

    slot: str = ""
    process: TrainerProcess | None = None
    spool_offset: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """A run as the server knows it: one row of the store. Times are nanoseconds since 1970 UTC, 0 for never.

    Attributes:
        request: what was asked for; name, tags and notes may be changed later.
        attempt: the number of the current attempt, from 1; 0 before the first.
        num_retries: how many attempts were made because a trainer died.
        queue_key: orders the queue within a priority, kept for retries; 0 before a start and after the end.
        spool_offset: bytes of the current attempt's spool that are in the log.
        process: the trainer, while there is or may be one.
        is_stop_requested: a stop was requested; a retry must not undo that.
        has_resumed: the current attempt continues an earlier one of the same run.
        until_step: the step from which it is to be saved and stopped, as its last start asked; 0 for none.
        code_digest: of the code that its first attempt ran, "" before that is known.
        provenance_seq: the event that tells which code it was last run with, and where; 0 for none.
        configs: every config whose value was known when the run was planned; of one that an option
            computes the option's name.
        extremes: by metric the smallest and the largest finite value of all steps that count.
        has_stale_extremes: a resume took steps back, and the extremes still have them.
        planned_digest: of the code that it was planned with when it was started last; "" for any.
        home: the id of the server's home that has its files; "" for that of any server, as there is one.
    """

    id: str
    request: RunRequest
    owner: str = ""
    state: RunState = RunState.CREATED
    reason: str = ""
    attempt: int = 0
    num_retries: int = 0
    step: int = 0
    total_steps: int = 0
    steps_per_second: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    slot: str = ""
    queue_key: int = 0
    create_time_ns: int = 0
    start_time_ns: int = 0
    end_time_ns: int = 0
    last_seq: int = 0
    spool_offset: int = 0
    process: TrainerProcess | None = None
    checkpoint_step: int | None = None
    config_hash: str = ""
    is_stop_requested: bool = False
    has_resumed: bool = False
    until_step: int = 0
    code_digest: str = ""
    provenance_seq: int = 0
    configs: Mapping[str, PlainValue] = field(default_factory=dict)
    extremes: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    has_stale_extremes: bool = False
    planned_digest: str = ""
    home: str = ""

    def changed(self, **changes: Any) -> Run:
        """Return the run with some other attributes: `dataclasses.replace` in a third of its time, for each event."""
        values = list(_values_of(self))
        for name, value in changes.items():
            values[_PLACES[name]] = value
        return Run(*values)

    @property
    def is_paused(self) -> bool:
        """Whether the run was stopped because it reached its `until_step`."""
        return (
            self.state is RunState.STOPPED
            and not self.is_stop_requested
            and 0 < self.until_step <= (self.checkpoint_step or 0)
        )

    @property
    def is_out_of_time(self) -> bool:
        """Whether the run was stopped because it had trained as long as it may."""
        return self.state is RunState.STOPPED and self.reason.startswith(OUT_OF_TIME)

    @property
    def experiment(self) -> str:
        """The experiment's name."""
        return self.request.experiment


_PLACES = {each.name: place for place, each in enumerate(fields(Run))}
_values_of = attrgetter(*_PLACES)

"""Runs and servers, as the server describes them: frozen values."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path, PurePosixPath

from lab_client.configs import PlainValue
from lab_client.errors import DownloadError
from lab_client.provenance import Provenance


class RunState(StrEnum):
    """The state of a run.

    Example:
        >>> from lab_client import RunState
        >>> [state.value for state in RunState if state.is_terminal]
        ['COMPLETED', 'STOPPED', 'FAILED']
        >>> RunState.RUNNING == "RUNNING"
        True
    """

    CREATED = "CREATED"
    QUEUED = "QUEUED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    COMPLETED = "COMPLETED"
    STOPPED = "STOPPED"
    FAILED = "FAILED"

    @property
    def is_terminal(self) -> bool:
        """Whether the run has ended (a stopped or failed one may still be resumed)."""
        return self in _TERMINAL


_TERMINAL = frozenset({RunState.COMPLETED, RunState.STOPPED, RunState.FAILED})


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How a run is to be executed; all of it is optional.

    Attributes:
        priority: higher runs first; equal ones in the order in which they were started.
        device: the requested device, "cpu" or "cuda:0"; empty takes any slot.
        pool: the pool of agents that is to train it; empty takes any slot, also the server's own.
        max_runtime_s: stopped after this many seconds of training; 0 means no limit.
        max_retries: how often it is retried after its trainer died; None is the server's default.
        writers: which writers record it, of "sqlite" and "tensorboard"; empty means both.
        final_checkpoint: whether it ends with a checkpoint, if it has models or optimizers.

    Example:
        >>> from lab_client import RunOptions
        >>> RunOptions(priority=5, device="cuda:0").priority
        5
    """

    priority: int = 0
    device: str = ""
    pool: str = ""
    max_runtime_s: float = 0.0
    max_retries: int | None = None
    writers: tuple[str, ...] = ()
    final_checkpoint: bool = True


@dataclass(frozen=True, slots=True)
class RunParent:
    """Where a run continues from another one's checkpoint.

    Attributes:
        run_id: the other run.
        step: the step of its checkpoint.
    """

    run_id: str
    step: int


@dataclass(frozen=True, slots=True)
class TrialOf:
    """The trial of a search that a run is.

    Attributes:
        search_id: the search.
        number: the trial's, from 0.
    """

    search_id: str
    number: int


@dataclass(frozen=True, slots=True)
class MetricRange:
    """What values a metric has had, of all steps that count.

    Attributes:
        min_value: the smallest finite one.
        max_value: the largest finite one.
    """

    min_value: float
    max_value: float


@dataclass(frozen=True, slots=True)
class Dashboard:
    """Where the dashboard is.

    Attributes:
        url: its address, as the server knows it.
        code: opens a session once, within a minute, at `url/login#code=...`; "" on a server without tokens.
    """

    url: str
    code: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Forecast:
    """When a run will end, and when the turn of one that waits comes: from the speed of what trains.

    Attributes:
        ends_in_s: seconds until it ends; None when nobody knows.
        starts_in_s: seconds until it starts, at most; None when it does not wait, or nobody knows.
        reason: why, such as "after 20261123-101112-0123abcd, which has 3 min to go"; or why it is not known.
    """

    ends_in_s: float | None
    starts_in_s: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class SentCode:
    """An experiment of code that a run was made of: the server has it already.

    Attributes:
        experiment: its name.
        upload_id: the code.
    """

    experiment: str
    upload_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """A run as the server knew it when it was asked.

    Attributes:
        id: unique on the server, sortable by time of creation.
        experiment: the experiment's name.
        name: a name for people.
        tags: labels to find it by.
        notes: free text.
        owner: who created it; empty on a server without tokens.
        overrides: the config values that were asked for, by key.
        run_order: what was asked to be computed first; empty is the experiment's own order.
        models: config items that were asked to be checkpointed; empty means all.
        options: how it is executed.
        state: the state.
        reason: one sentence: why it is in this state.
        attempt: the number of the current try, from 1; 0 before the first.
        step: the last global step that is recorded.
        total_steps: the step at which it will end; 0 when not known.
        steps_per_second: its speed; 0 when it does not train.
        metrics: the last value of each metric.
        queue_position: its place among the waiting runs, from 1; 0 when it does not wait.
        slot: the slot it has; empty when it has none.
        parent: the run and checkpoint it continues; None when it started fresh.
        create_time: when it was created, in UTC.
        start_time: when its first attempt started to train.
        end_time: when it reached a terminal state.
        last_seq: the number of events in its log.
        checkpoint_step: the step of its newest checkpoint.
        config_hash: runs of equal configs have equal hashes.
        folder: its files, on the server's machine.
        until_step: the step at which it is to be saved and stopped; 0 when there is none.
        trial: the trial that it is; None when no search made it.
        provenance: the code that it was last run with, and where; None before that is known, and in lists
            of runs.
        configs: every config whose value was known when it was planned, the defaults included; of one
            that an option computes the option's name.
        metric_ranges: of each metric the smallest and the largest finite value.
        upload_id: the code that was sent and has its experiment; empty for an experiment of the server's own.
        forecast: when it will end; None for one that neither waits nor trains.

    Example:
        >>> from lab_client import Client
        >>> with Client() as client:  # doctest: +SKIP
        ...     for run in client.runs(order_by="metrics.accuracy desc", limit=3):
        ...         print(run.info.name, run.info.overrides, run.info.metrics.get("accuracy"))
    """

    id: str
    experiment: str
    name: str
    tags: tuple[str, ...]
    notes: str
    owner: str
    overrides: Mapping[str, PlainValue]
    run_order: tuple[tuple[str, ...], ...]
    models: tuple[str, ...]
    options: RunOptions
    state: RunState
    reason: str
    attempt: int
    step: int
    total_steps: int
    steps_per_second: float
    metrics: Mapping[str, float]
    queue_position: int
    slot: str
    parent: RunParent | None
    create_time: datetime | None
    start_time: datetime | None
    end_time: datetime | None
    last_seq: int
    checkpoint_step: int | None
    config_hash: str
    folder: str
    until_step: int = 0
    trial: TrialOf | None = None
    provenance: Provenance | None = None
    configs: Mapping[str, PlainValue] = field(default_factory=dict)
    metric_ranges: Mapping[str, MetricRange] = field(default_factory=dict)
    forecast: Forecast | None = None
    upload_id: str = ""

    @property
    def source(self) -> str | SentCode:
        """The experiment, as `plan` and `create` take it: its name, or the code that was sent."""
        return SentCode(self.experiment, self.upload_id) if self.upload_id else self.experiment


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file in a run's folder.

    Attributes:
        path: below the run's folder, with forward slashes.
        size_bytes: its size.
    """

    path: str
    size_bytes: int

    def below(self, folder: str | os.PathLike[str]) -> Path:
        """Return where the file goes when the run's files are copied into a folder.

        Raises:
            DownloadError: if the path that the server names does not stay below the folder.
        """
        path, pure = self.path, PurePosixPath(self.path)
        is_outside = pure.is_absolute() or ".." in pure.parts or not pure.parts
        if is_outside or "\0" in path or "\\" in path:
            raise DownloadError(
                f"the server names a file {path!r}, which is no path below a folder"
            )
        return Path(folder, *pure.parts)


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in which one run can train.

    Attributes:
        name: such as "cpu:0" or "cuda:1"; of an agent "pool/agent/cuda:1".
        run_id: the run that has it; empty when it is free.
    """

    name: str
    run_id: str


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """A server: its version, slots and queue, and who the caller is to it.

    Attributes:
        version: such as "0.1.0".
        slots: every slot.
        queue_length: the number of runs that wait for a slot.
        queue_limit: the largest number of runs that may wait.
        principal: who the caller is to the server; empty on a server without tokens.
        role: "viewer", "operator" or "admin".
        absent_leader: of several servers on a store, the one that leads, if it does not answer the one that was
            asked; its slots are not known then. Empty otherwise.
    """

    version: str
    slots: tuple[Slot, ...]
    queue_length: int
    queue_limit: int
    principal: str
    role: str
    absent_leader: str = ""

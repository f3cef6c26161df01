"""How a trainer process is started, and what its exit status means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from lab_core.configs import PlainValue
from lab_server.model.media import MediaLimits
from lab_server.model.upload import Upload

EXIT_DISK_FULL = 28
"""Exit status of a trainer that could not even write its outcome; the number is ENOSPC's."""

EXIT_INTERRUPTED = 75
"""Exit status of a trainer that saved and exited on SIGTERM, to be retried; the number is EX_TEMPFAIL's."""

DISK_FULL = "the disk is full: the trainer could not even write its outcome"
"""What `Executor.wait` returns for a trainer that would fail in the same way if it were retried."""

_PATHS = ("folder", "parent_folder", "lease")


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """All that a trainer process needs to know; sent to the forkserver as JSON.

    Attributes:
        folder: the run's folder.
        num_threads: its share of the CPU's threads.
        is_resume: go on from the newest good checkpoint in the folder, if there is one, and send a truncate event.
        max_checkpoint_step: a newer checkpoint is ignored. The event log has none newer, so it may lack
            metrics from before that one; they are recorded again when the steps are trained again.
        parent_folder: the folder of the run whose checkpoint a fork starts from, with parent_step.
        until_step: the step from which to save and stop, unless the run ends there; 0 for none.
        seed: what random numbers are seeded by where the experiment sets no seed.
        is_saved_at_end: end with a checkpoint.
        code_digest: of the code that the run began with; "" at its first attempt.
        slot: the name of its slot.
        lease: a file that says until when it may train; None for as long as it takes.
        upload: the code that has the experiment; None for one of the server's own.
        keeper_pid: the process with which it dies; 0 for none.
        usage_interval_s: how often what it uses of its machine is recorded; 0 for never.
        media: how much of its images, texts, histograms and indexed values its log takes.
    """

    run_id: str
    attempt: int
    folder: Path
    experiment: str
    overrides: Mapping[str, PlainValue]
    run_order: tuple[tuple[str, ...], ...]
    models: tuple[str, ...]
    writers: tuple[str, ...]
    name: str
    tags: tuple[str, ...]
    notes: str
    device: str
    num_threads: int
    is_resume: bool = False
    max_checkpoint_step: int = -1
    parent_run_id: str = ""
    parent_folder: Path | None = None
    parent_step: int = 0
    until_step: int = 0
    seed: str = ""
    code_digest: str = ""
    is_saved_at_end: bool = True
    slot: str = ""
    lease: Path | None = None
    upload: Upload | None = None
    keeper_pid: int = 0
    usage_interval_s: float = 0.0
    media: MediaLimits = field(default_factory=MediaLimits)

    def to_json(self) -> dict[str, Any]:
        """Return the spec as plain data, for the way to the forkserver."""
        data = {field.name: getattr(self, field.name) for field in fields(self)}  # asdict copies
        data["overrides"] = dict(self.overrides)
        data["media"] = asdict(self.media)
        data["upload"] = None if self.upload is None else asdict(self.upload)
        for name in _PATHS:
            data[name] = None if data[name] is None else str(data[name])
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LaunchSpec:
        """Return the spec that `to_json` made plain."""
        return cls(
            **{
                **data,
                **{name: None if data[name] is None else Path(data[name]) for name in _PATHS},
                "run_order": tuple(tuple(group) for group in data["run_order"]),
                "models": tuple(data["models"]),
                "writers": tuple(data["writers"]),
                "media": MediaLimits(**data["media"]),
                "tags": tuple(data["tags"]),
                "upload": None if data["upload"] is None else Upload(**data["upload"]),
            }
        )

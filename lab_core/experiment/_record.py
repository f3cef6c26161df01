"""What is known about a run as a whole: run.yaml."""

from __future__ import annotations

import os
import secrets
import threading
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from lab_core._packages import require
from lab_core.errors import LabError

RUN_FILE = "run.yaml"

# One at a time, so that the last one has all: a thread may record what the code is meanwhile.
_saving = threading.Lock()


class Status(StrEnum):
    """How far a run is; one that was killed stays `running` in its file."""

    RUNNING = "running"
    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass
class RunRecord:
    """The contents of a run's ``run.yaml``.

    Attributes:
        experiment: the experiment's name, which is also its folder's.
        name: the run's own, for people.
        notes: free text.
        start, end: ISO 8601, UTC.
        commit, commit_message, branch, is_dirty: of the git repository, None without one.
        code: module, class, path, digest and files of the configs, the files with their SHA-256.
        environment: versions, host and device.
        start_step: the global step at which the run began.
        parent_run: the run that it was resumed from.
        traceback: of what ended a failed run.
        pid: process of the run.
    """

    id: str
    experiment: str
    name: str = ""
    notes: str = ""
    tags: list[str] = field(default_factory=list)
    script: str = ""
    start: str = ""
    end: str | None = None
    status: Status = Status.RUNNING
    traceback: str | None = None
    commit: str | None = None
    commit_message: str | None = None
    branch: str | None = None
    is_dirty: bool | None = None
    start_step: int = 0
    parent_run: str | None = None
    pid: int = 0
    code: dict[str, Any] | None = None
    environment: dict[str, str] | None = None

    def save(self, folder: Path) -> None:
        """Write ``run.yaml``, whole or not at all."""
        with _saving:
            write_yaml(folder / RUN_FILE, {**asdict(self), "status": self.status.value})

    @classmethod
    def load(cls, folder: Path) -> RunRecord:
        """Read ``run.yaml``.

        Raises:
            LabError: If it is not there, or not a run's.
        """
        yaml = require("yaml")
        path = folder / RUN_FILE
        try:
            data = yaml.safe_load(path.read_text(encoding="utf-8"))
            if "experiment" not in data:  # as earlier versions wrote it
                data |= {"experiment": data["name"], "notes": data.get("comment", "")}
            known = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
            return cls(**{**known, "status": Status(known.get("status", "running"))})
        except (OSError, KeyError, ValueError, TypeError, yaml.YAMLError) as error:
            raise LabError(f"{path} is not the record of a run: {error}") from error


def new_run_id() -> str:
    """Return a run id: unique, sorted by time, safe in paths and URLs."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def now() -> str:
    """Return the time in ISO 8601, UTC; runs are sorted by it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def write_yaml(path: Path, data: Any) -> None:
    """Write plain data as YAML, whole or not at all."""
    yaml = require("yaml")
    text = yaml.dump(data, Dumper=_dumper(yaml), sort_keys=False, allow_unicode=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    draft.write_text(text, encoding="utf-8", errors="backslashreplace")
    draft.replace(path)


def _dumper(yaml: Any) -> Any:
    # libyaml's is ten times as fast; not every build of PyYAML has it
    return getattr(yaml, "CSafeDumper", yaml.SafeDumper)

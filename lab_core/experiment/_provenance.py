"""What a run's record says of its code and of where it ran."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from lab_core.experiment._record import RunRecord
from lab_core.provenance import Code, Environment, GitState

DIFF_FILE = "source.diff"


def note_provenance(
    record: RunRecord,
    folder: Path,
    code: Code,
    git: GitState | None,
    environment: Environment,
) -> None:
    """Put it into the record, which is not saved yet, and the uncommitted changes into the run's folder."""
    record.environment = asdict(environment)
    record.code = code.to_json()
    diff = folder / DIFF_FILE
    if git is None:
        diff.unlink(missing_ok=True)
        return
    if git.untracked:
        record.code["untracked"] = [f.path for f in code.files if str(f.location) in git.untracked]
    record.commit, record.commit_message = git.commit, git.message
    record.branch, record.is_dirty = git.branch, git.is_dirty
    if git.is_dirty:
        diff.write_text(git.diff, encoding="utf-8")
    else:
        diff.unlink(missing_ok=True)  # of an earlier attempt

"""What git says about the code of a run: recorded when there is a repository, never demanded."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

_TIMEOUT_S = 5.0
_MAX_DIFF_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class GitState:
    """The code of a run.

    Attributes:
        commit: hash of HEAD.
        message: subject of HEAD.
        is_dirty: whether tracked files were changed since.
        diff: those changes; capped.
    """

    commit: str
    message: str
    is_dirty: bool
    diff: str


def read_git(folder: Path) -> GitState | None:
    """Return the state of the repository around `folder`, None without one, or without git."""
    head = _git(folder, "log", "-1", "--format=%H%n%s")
    if head is None:
        return None
    commit, _, message = head.partition("\n")
    diff = _git(folder, "diff", "HEAD", "--no-color", "--no-ext-diff") or ""
    return GitState(commit.strip(), message.strip(), bool(diff), diff)


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what a git command prints, None if it fails."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command
            command, capture_output=True, timeout=_TIMEOUT_S, check=True, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return None
    output = done.stdout
    # a diff may be in any encoding, and as long as a data file
    text = output[:_MAX_DIFF_BYTES].decode("utf-8", errors="replace")
    return (
        text if len(output) <= _MAX_DIFF_BYTES else f"{text}\n... cut at {_MAX_DIFF_BYTES} bytes\n"
    )

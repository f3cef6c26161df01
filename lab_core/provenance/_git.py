"""What git says about the code of a run: recorded when there is a repository, never demanded."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

TIMEOUT_S = 5.0  # for all commands together
MAX_DIFF_BYTES = 256 << 10
# No lock on the index, which the user's own git may want, and which stays behind if git is killed; diff
# takes one, whatever the first option says, to write what it saw of files that were only touched.
_WITHOUT_LOCKS = ("--no-optional-locks", "-c", "diff.autoRefreshIndex=false")


@dataclass(frozen=True, slots=True)
class GitState:
    """The state of a git repository.

    Attributes:
        commit: hash of HEAD.
        message: subject of HEAD.
        branch: "" if HEAD is detached.
        is_dirty: whether tracked files were changed since.
        diff: those changes, against HEAD; cut at MAX_DIFF_BYTES, which its last line then says.
        is_diff_cut: whether it was.
        untracked: which of the given files no commit has.
    """

    commit: str
    message: str
    branch: str
    is_dirty: bool
    diff: str
    is_diff_cut: bool = False
    untracked: tuple[str, ...] = ()


def read_git(folder: Path, files: Sequence[Path] = ()) -> GitState | None:
    """Return the state of the repository around `folder`.

    None without one, without git, or if git takes longer than 5 s.

    Args:
        folder: in the repository.
        files: to be checked for whether git knows them; those outside of the repository are left out.
    """
    git = _Git(folder)
    try:
        commit, _, message = git.text("log", "-1", "--format=%H%n%s").partition("\n")
        branch = git.text("symbolic-ref", "--short", "-q", "HEAD", is_needed=False)
        diff, is_cut = git.output("diff", "HEAD", "--no-color", "--no-ext-diff", "--no-textconv")
        untracked = _untracked(git, files)
    except (OSError, subprocess.SubprocessError):
        return None
    return GitState(
        commit.strip(), message.strip(), branch.strip(), bool(diff), diff, is_cut, untracked
    )


def _untracked(git: _Git, files: Sequence[Path]) -> tuple[str, ...]:
    if not files:
        return ()
    top = Path(git.text("rev-parse", "--show-toplevel").rstrip("\n"))
    inside = [path for path in files if path.is_relative_to(top)]
    if not inside:
        return ()
    # all but those that are in the index, ignored ones too
    listed = git.text("ls-files", "-z", "--full-name", "--others", "--", *map(str, inside))
    names = {name for name in listed.split("\0") if name}
    return tuple(str(path) for path in inside if str(path.relative_to(top)) in names)


class _Git:
    """Runs git commands in a folder, all within one deadline."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._deadline = time.monotonic() + TIMEOUT_S

    def text(self, *arguments: str, is_needed: bool = True) -> str:
        """Return what a command prints; "" if one that is not needed fails."""
        try:
            return self.output(*arguments)[0]
        except subprocess.CalledProcessError:
            if is_needed:
                raise
            return ""

    def output(self, *arguments: str) -> tuple[str, bool]:
        """Return what a command prints, up to MAX_DIFF_BYTES, and whether that is not all.

        Raises:
            OSError: If there is no git.
            subprocess.SubprocessError: If it fails, or takes too long.
        """
        command = ["git", *_WITHOUT_LOCKS, "-C", str(self._folder), *arguments]
        with subprocess.Popen(  # noqa: S603 - fixed commands
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process:
            assert process.stdout is not None
            try:
                data = _read(process.stdout, self._deadline)
                if len(data) > MAX_DIFF_BYTES:
                    process.kill()
                    # it may be in any encoding, and as long as a data file
                    text = data[:MAX_DIFF_BYTES].decode("utf-8", errors="replace")
                    return f"{text}\n... cut at {MAX_DIFF_BYTES} bytes\n", True
                process.wait(max(0.0, self._deadline - time.monotonic()))
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
        return data.decode("utf-8", errors="replace"), False


def _read(pipe: IO[bytes], deadline: float) -> bytes:
    """Return the first MAX_DIFF_BYTES + 1 bytes; all, if there are fewer.

    Raises:
        subprocess.TimeoutExpired: If they do not come in time.
    """
    import select

    # not select.select, which takes no descriptor beyond 1023
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    data = b""
    while len(data) <= MAX_DIFF_BYTES:
        left_s = deadline - time.monotonic()
        if left_s <= 0 or not poll.poll(1e3 * left_s):
            raise subprocess.TimeoutExpired("git", TIMEOUT_S)
        chunk = pipe.read1(1 << 16)  # type: ignore[attr-defined]
        if not chunk:
            break
        data += chunk
    return data[: MAX_DIFF_BYTES + 1]

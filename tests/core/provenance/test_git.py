"""What is recorded of the git repository around a file."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from pathlib import Path

import pytest

from lab_core.provenance import MAX_DIFF_BYTES, _git, read_git

IDENTITY = ("-c", "user.name=a", "-c", "user.email=a@b")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    (tmp_path / "sine.py").write_text("a = 1\n")
    git(tmp_path, "init", "-q", "-b", "trunk")
    git(tmp_path, "add", ".")
    git(tmp_path, *IDENTITY, "commit", "-qm", "Start")
    return tmp_path


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True, timeout=60)


def test_a_clean_repository_is_its_commit_and_branch(repository: Path) -> None:
    found = read_git(repository, [repository / "sine.py"])

    assert found is not None
    assert (found.message, found.branch, found.is_dirty) == ("Start", "trunk", False)
    assert (found.diff, found.is_diff_cut, found.untracked) == ("", False, ())


def test_a_process_may_have_many_open_files(repository: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != hard < 2048:
        pytest.skip("this process may not open so many files")
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    with contextlib.ExitStack() as stack:
        for _ in range(1100):
            stack.enter_context(open(os.devnull, "rb"))
        found = read_git(repository)

    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found is not None
    assert found.message == "Start"


def test_changes_are_in_the_diff_staged_ones_too(repository: Path) -> None:
    (repository / "sine.py").write_text("a = 2\n")
    git(repository, "add", ".")
    (repository / "sine.py").write_text("a = 3\n")

    found = read_git(repository)

    assert found is not None
    assert found.is_dirty
    assert found.diff.endswith("-a = 1\n+a = 3\n")


def test_files_that_no_commit_has_are_named(repository: Path, tmp_path: Path) -> None:
    (repository / ".gitignore").write_text("ignored.py\n")
    files = [repository / name for name in ("sine.py", "new.py", "ignored.py", "ä ö.py")]
    for path in files[1:]:
        path.touch()

    found = read_git(repository, [*files, Path("/elsewhere/other.py")])

    assert found is not None
    assert found.untracked == tuple(map(str, files[1:]))
    assert not found.is_dirty, "no tracked file has changed"


def test_a_diff_that_is_too_long_is_cut_and_says_so(repository: Path) -> None:
    (repository / "sine.py").write_text(
        "x" * 79 + "\n" + ("y" * 79 + "\n") * (MAX_DIFF_BYTES // 40)
    )

    found = read_git(repository)

    assert found is not None
    assert found.is_diff_cut
    assert found.diff.endswith(f"... cut at {MAX_DIFF_BYTES} bytes\n")
    assert MAX_DIFF_BYTES < len(found.diff) < MAX_DIFF_BYTES + 100


def test_a_detached_head_is_on_no_branch(repository: Path) -> None:
    git(repository, "checkout", "-q", "--detach")

    found = read_git(repository)

    assert found is not None
    assert (found.branch, found.message) == ("", "Start")


def test_without_a_repository_or_a_commit_there_is_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert read_git(tmp_path) is None
    git(tmp_path, "init", "-q")
    assert read_git(tmp_path) is None
    assert read_git(tmp_path / "missing") is None


@pytest.mark.parametrize("does", ["sleep 60", "echo one; sleep 60"])
def test_a_git_that_hangs_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str
) -> None:
    fake = tmp_path / "bin" / "git"
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\n{does.replace('sleep', 'exec sleep')}\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:/usr/bin:/bin")
    monkeypatch.setattr(_git, "TIMEOUT_S", 0.3)

    assert read_git(tmp_path) is None


def test_the_index_is_left_alone_whoever_else_needs_it(repository: Path) -> None:
    index = repository / ".git" / "index"
    before = index.stat()
    # as if edited: git diff looks at the content, and would note in the index that it is the same
    (repository / "sine.py").write_text("a = 1\n")
    os.utime(repository / "sine.py", (1, 1))

    found = read_git(repository, [repository / "sine.py"])

    assert found is not None
    assert not found.is_dirty
    after = index.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)

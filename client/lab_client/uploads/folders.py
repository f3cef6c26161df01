"""The files of a package, but for those that are ignored."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lab_client.errors import UploadError

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

IGNORE_FILE = ".labignore"

_ALWAYS_IGNORED = (".*", "__pycache__/", "*.py[cod]")


def files_of(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, by path, without what its `.labignore` names.

    The file has the patterns of a `.gitignore`. Hidden files and bytecode are always ignored.

    Raises:
        UploadError: If one of them is a link, or something else that is no file.
    """
    yield from _walk(folder, folder, _read_ignored(folder))


def _walk(folder: Path, top: Path, ignored: GitIgnoreSpec) -> Iterator[Path]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path = Path(entry.path)
        name = path.relative_to(top).as_posix()
        is_folder = entry.is_dir(follow_symlinks=False)
        if ignored.match_file(f"{name}/" if is_folder else name):
            continue
        if is_folder:
            yield from _walk(path, top, ignored)
        elif entry.is_file(follow_symlinks=False):
            yield path
        else:
            kind = "a link" if entry.is_symlink() else "no plain file"
            raise UploadError(f"{path} is {kind}; only files can be sent: name it in {IGNORE_FILE}")


def _read_ignored(folder: Path) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec  # here: most commands send no code

    try:
        lines = (folder / IGNORE_FILE).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        lines = []
    except (OSError, UnicodeError) as error:
        raise UploadError(f"cannot read {folder / IGNORE_FILE}: {error}") from None
    try:
        return GitIgnoreSpec.from_lines([*_ALWAYS_IGNORED, *lines])
    except ValueError as error:
        raise UploadError(f"{folder / IGNORE_FILE} has an invalid pattern: {error}") from None

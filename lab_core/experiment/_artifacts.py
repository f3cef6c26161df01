"""Files of one's own in a run's folder: below `artifacts/`, each written whole or not at all, and arrays."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from lab_core.errors import LabError
from lab_core.experiment._places import NAME

FOLDER: Final = "artifacts"
_MAX_PARTS: Final = 8


class Artifacts:
    """Saves files into a run's folder, and tells of each.

    Args:
        folder: the run's.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._on_saved: list[Callable[[Path], object]] = []

    def on_saved(self, callback: Callable[[Path], object]) -> None:
        """Call this with the path of each file from now on."""
        self._on_saved.append(callback)

    def save(self, name: str, content: bytes | str | os.PathLike[str]) -> Path:
        """Save a file and return its path; see ``save``."""
        return self._saved(save(self._folder, name, content))

    def save_numpy(self, name: str, array: Any) -> Path:
        """Save an array as ``numpy/<name>.npy`` and return the path."""
        import numpy as np

        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise LabError(f"an array's name is letters, digits, '_', '.' and '-', got {name!r}")
        path = self._folder / "numpy" / f"{name}.npy"

        def write(draft: Path) -> None:
            with draft.open("wb") as file:
                np.save(file, array)

        return self._saved(_write_whole(path, write, f"the array {name!r}"))

    def _saved(self, path: Path) -> Path:
        for callback in self._on_saved:
            callback(path)
        return path


def save(run_folder: Path, name: str, content: bytes | str | os.PathLike[str]) -> Path:
    """Write or copy a file into a run's folder and return its path.

    Args:
        run_folder: the run's.
        name: below `artifacts/`, such as "roc.png" or "plots/roc.png"; one of that name is replaced.
        content: the bytes to write, or the path of the file to copy.

    Raises:
        LabError: If the name is none, or the file to copy is not there or cannot be written.
    """
    parts = name.split("/") if isinstance(name, str) else []
    if not 0 < len(parts) <= _MAX_PARTS or not all(NAME.fullmatch(part) for part in parts):
        raise LabError(
            "an artifact's name is letters, digits, '_', '.' and '-', with '/' between folders, such as "
            f"plots/roc.png; got {name!r}"
        )

    def write(draft: Path) -> None:
        if isinstance(content, bytes | bytearray | memoryview):
            draft.write_bytes(content)
        else:
            shutil.copyfile(os.fspath(content), draft)  # not a number, which were a file descriptor

    return _write_whole(run_folder.joinpath(FOLDER, *parts), write, f"the artifact {name!r}")


def _write_whole(path: Path, write: Callable[[Path], object], what: str) -> Path:
    """Have a file written under another name, and give it its own; return its path."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(draft)
        draft.replace(path)
    except Exception as error:
        # numpy raises whatever an object in an array does when it is pickled
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        hint = _hint(error)
        raise LabError(f"{what} cannot be saved: {error}{hint}") from error
    return path


def _hint(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "; content is bytes, or the path of a file to copy: a text is saved by text.encode()"
    return ""

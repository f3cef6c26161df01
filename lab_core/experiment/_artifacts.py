"""Files of one's own in a run's folder: below `artifacts/`, each written whole or not at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from lab_core.errors import LabError
from lab_core.experiment._places import NAME

FOLDER: Final = "artifacts"
_MAX_PARTS: Final = 8


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
    path = run_folder.joinpath(FOLDER, *parts)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes | bytearray | memoryview):
            draft.write_bytes(content)
        else:
            shutil.copyfile(os.fspath(content), draft)  # not a number, which were a file descriptor
        draft.replace(path)
    except (OSError, TypeError) as error:
        draft.unlink(missing_ok=True)
        raise LabError(f"the artifact {name!r} cannot be saved: {error}") from error
    return path

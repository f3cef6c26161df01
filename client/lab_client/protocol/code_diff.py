"""The difference between the code of two runs: which files to fetch, and the diff of them."""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from types import TracebackType

from lab_client.errors import InvalidState
from lab_client.protocol.download import Download
from lab_client.provenance import Provenance
from lab_client.runs import RunInfo


class CodeDiff:
    """Two runs' code, compared: carry out `downloads`, then read `text`.

    Raises:
        InvalidState: if it is not known of a run which code it is.
    """

    def __init__(self, before: RunInfo, after: RunInfo) -> None:
        self._sides = tuple((info.id, _provenance(info)) for info in (before, after))
        (_, old), (_, new) = self._sides
        self._paths = old.changed_files(new)

    def __enter__(self) -> CodeDiff:
        self._folder = tempfile.TemporaryDirectory(prefix="lab-")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._folder.cleanup()

    def downloads(self) -> Iterator[Download]:
        """Yield what is to be fetched: the files that differ, of each run that has them."""
        for run_id, provenance in self._sides:
            for index, path in enumerate(self._paths):
                if path in provenance.files:
                    target = self._file(run_id, index)
                    yield Download(run_id, str(PurePosixPath(provenance.folder, path)), target)

    def text(self) -> str:
        """Return a unified diff; "" when the code is equal."""
        (old_id, _), (new_id, _) = self._sides
        parts: list[str] = []
        for index, path in enumerate(self._paths):
            parts += difflib.unified_diff(
                self._lines(old_id, index),
                self._lines(new_id, index),
                f"{old_id}/{path}",
                f"{new_id}/{path}",
            )
        return "".join(parts)

    def _lines(self, run_id: str, index: int) -> list[str]:
        file = self._file(run_id, index)
        text = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
        lines = text.splitlines(keepends=True)
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += "\n\\ No newline at end of file\n"
        return lines

    def _file(self, run_id: str, index: int) -> Path:
        # not by the path, which a server says
        return Path(self._folder.name, f"{run_id}-{index}")


def _provenance(info: RunInfo) -> Provenance:
    if info.provenance is None:
        raise InvalidState(
            f"it is not known which code run {info.id} is: it was not started yet, or by a server "
            "that did not record it"
        )
    return info.provenance

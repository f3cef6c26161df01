"""The code that clients sent: a folder for each upload, named by its content, with who sent it and who uses it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lab_server.errors import NotFound
from lab_server.model.upload import Upload

_UNUSED_S = 86400.0
_RECORD = "upload.json"


class UploadStore:
    """Uploads below one folder; nothing of it is for several threads at once, but for different uploads.

        <id>/files/...     what was sent
        <id>/upload.json   its module, and who sent it when
        <id>/runs/<run>    a file for each run that uses it, with the path of the run's folder

    Args:
        folder: made when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def files_of(self, upload: Upload) -> Path:
        """Return the folder with an upload's files.

        Raises:
            NotFound: If it is not there.
        """
        path = self._folder / upload.id / "files"
        if not path.is_dir():
            raise NotFound("upload", upload.id, "its files are gone; send the code again")
        return path

    def find(self, upload_id: str, owner: str | None) -> Upload:
        """Return an upload that somebody sent, and note that it is of use.

        Args:
            upload_id: what a client says is its id.
            owner: who must have sent it; None for anybody.

        Raises:
            NotFound: If there is none of this id, or others sent it.
        """
        record = self._record(upload_id) if _is_id(upload_id) else None
        if record is None or (owner is not None and owner not in _owners(record)):
            raise NotFound("upload", upload_id[:100], "send the code first")
        os.utime(self._folder / upload_id / _RECORD)
        return Upload(upload_id, record["module"])

    @property
    def folder(self) -> Path:
        """Where uploads are, and drafts of them."""
        return self._folder

    def keep(self, draft: Path, upload: Upload, owner: str) -> None:
        """Give a whole upload its name; one that is there already gets another owner.

        Args:
            draft: a folder beside the uploads, with the upload's `files`.
            upload: what it is.
            owner: who sent it.
        """
        self._write_record(draft, {"module": upload.module, "sent": [_sent(owner)]})
        try:
            draft.rename(self._folder / upload.id)
        except OSError:
            record = self._record(upload.id)
            if record is None:
                raise
            if owner not in _owners(record):
                record["sent"].append(_sent(owner))
                self._write_record(self._folder / upload.id, record)

    def note_run(self, upload: Upload, run_id: str, folder: Path) -> None:
        """Note that a run uses an upload, for as long as the run's folder exists."""
        runs = self._folder / upload.id / "runs"
        runs.mkdir(exist_ok=True)
        (runs / run_id).write_text(str(folder))

    def prune(self) -> list[str]:
        """Remove uploads that no run uses and nobody asked for within a day; return their ids."""
        oldest = time.time() - _UNUSED_S
        removed = []
        for path in self._folder.glob("*"):
            with contextlib.suppress(OSError):
                newest = (path / _RECORD if _is_id(path.name) else path).stat().st_mtime
                if newest < oldest and not _is_used(path):
                    shutil.rmtree(path)
                    removed.append(path.name)
        return removed

    def _record(self, upload_id: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads((self._folder / upload_id / _RECORD).read_text())
        except (OSError, ValueError):
            return None
        return found

    def _write_record(self, folder: Path, record: dict[str, Any]) -> None:
        draft = folder / f".{_RECORD}"
        draft.write_text(json.dumps(record, indent=1))
        draft.replace(folder / _RECORD)


def _is_id(text: str) -> bool:
    return len(text) == 64 and all(char in "0123456789abcdef" for char in text)


def _sent(owner: str) -> dict[str, str]:
    return {"owner": owner, "time": datetime.now(UTC).isoformat(timespec="seconds")}


def _owners(record: dict[str, Any]) -> set[str]:
    return {sent["owner"] for sent in record["sent"]}


def _is_used(path: Path) -> bool:
    return any(Path(run.read_text()).exists() for run in path.glob("runs/*"))

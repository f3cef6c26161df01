"""The code that clients sent: a folder for each upload, named by its content, with who sent it and who uses it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lab_rpc import uploads as rules
from lab_server.descriptors import raise_if_blind
from lab_server.errors import NotFound
from lab_server.files.arriving import sync_folder
from lab_server.model.upload import Upload
from lab_server.model.upload_manifest import Manifest, ManifestFile

_UNUSED_S = 86400.0
_RECORD = "upload.json"


class UploadStore:
    """Uploads below one folder; nothing of it is for several threads at once, but for different uploads.

        <id>/files/...     what was sent
        <id>/upload.json   its module, the hashes of its files, and who sent it when
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
            raise _gone(upload)
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
        is_known = record is not None and "files" in record  # else an earlier version kept it
        if record is None or not is_known or (owner is not None and owner not in _owners(record)):
            raise NotFound("upload", upload_id[:100], "send the code first")
        os.utime(self._folder / upload_id / _RECORD)
        return Upload(upload_id, record["module"])

    def owners_of(self, upload: Upload) -> list[str]:
        """Return who sent an upload."""
        return sorted(_owners(self._record(upload.id) or {"sent": []}))

    @property
    def folder(self) -> Path:
        """Where uploads are, and drafts of them."""
        return self._folder

    def manifest_of(self, upload: Upload) -> Manifest:
        """Return what was sent, whatever has become of the files since.

        Raises:
            NotFound: If it is not there.
        """
        record = self._record(upload.id) or {}
        try:
            module = str(record["module"])
            files = [ManifestFile(path, *of_file) for path, of_file in record["files"].items()]
        except (KeyError, TypeError, AttributeError):
            raise _gone(upload) from None
        return Manifest(module, tuple(files))

    async def read(self, upload: Upload, manifest: Manifest) -> AsyncIterator[bytes]:
        """Yield what the files of an upload have now, one after the other, in pieces.

        Raises:
            NotFound: If one cannot be read.
        """
        folder = self.files_of(upload)
        try:
            for file in manifest.files:
                with (folder / file.path).open("rb") as opened:
                    while data := await asyncio.to_thread(opened.read, rules.CHUNK_BYTES):
                        yield data
        except OSError as error:
            raise_if_blind(error)
            raise _gone(upload) from None

    def is_whole(self, upload: Upload) -> bool:
        """Whether an upload is there, and its files have the content that its id says."""
        try:
            manifest = self.manifest_of(upload)
            folder = self.files_of(upload)
            return manifest.upload_id == upload.id and all(
                _sha256(folder / file.path) == file.sha256 for file in manifest.files
            )
        except OSError as error:
            raise_if_blind(error)
            return False
        except NotFound:
            return False

    def check(self, upload: Upload) -> None:
        """Check that an upload may be run.

        Raises:
            NotFound: If it is not there, or its files are not as they were sent.
        """
        self.files_of(upload)
        if not self.is_whole(upload):
            hint = "its files are not as they were sent; send the code again"
            raise NotFound("upload", upload.id, hint)

    def keep(self, draft: Path, manifest: Manifest, *owners: str) -> Upload:
        """Give a whole upload its name; one that is there already gets other owners, and is mended.

        Args:
            draft: a folder beside the uploads, with the upload's `files`.
            manifest: what it is.
            owners: who sent it.
        """
        upload = Upload(manifest.upload_id, manifest.module)
        files = {file.path: (file.size_bytes, file.sha256) for file in manifest.files}
        record = {
            "module": upload.module,
            "files": files,
            "sent": [_sent(owner) for owner in owners],
        }
        self._write_record(draft, record)
        there = self._folder / upload.id
        try:
            draft.rename(there)
            sync_folder(self._folder)
        except OSError:
            if not there.is_dir():
                raise
            if not self.is_whole(upload):
                with contextlib.suppress(FileNotFoundError):
                    (there / "files").rename(draft / "damaged")
                (draft / "files").rename(there / "files")
            sent = (self._record(upload.id) or {"sent": []})["sent"]
            known = {each["owner"] for each in sent}
            sent += [_sent(owner) for owner in owners if owner not in known]
            self._write_record(there, {**record, "sent": sent})
        return upload

    def note_run(self, upload: Upload, run_id: str, folder: Path) -> None:
        """Note that a run uses an upload, for as long as the run's folder exists."""
        runs = self._folder / upload.id / "runs"
        runs.mkdir(exist_ok=True)
        (runs / run_id).write_text(str(folder))

    def is_of(self, upload: Upload, run_id: str) -> bool:
        """Whether a run uses an upload."""
        return _is_id(upload.id) and (self._folder / upload.id / "runs" / run_id).is_file()

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
        except OSError as error:
            raise_if_blind(error)
            return None
        except ValueError:
            return None
        return found

    def _write_record(self, folder: Path, record: dict[str, Any]) -> None:
        draft = folder / f".{_RECORD}"
        draft.write_text(json.dumps(record, indent=1))
        draft.replace(folder / _RECORD)


def _gone(upload: Upload) -> NotFound:
    return NotFound("upload", upload.id, "its files are gone; send the code again")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_id(text: str) -> bool:
    return len(text) == 64 and all(char in "0123456789abcdef" for char in text)


def _sent(owner: str) -> dict[str, str]:
    return {"owner": owner, "time": datetime.now(UTC).isoformat(timespec="seconds")}


def _owners(record: dict[str, Any]) -> set[str]:
    return {sent["owner"] for sent in record["sent"]}


def _is_used(path: Path) -> bool:
    runs = path / "runs"
    # not glob, which may take a folder that it cannot read for an empty one
    return runs.is_dir() and any(Path(run.read_text()).exists() for run in runs.iterdir())

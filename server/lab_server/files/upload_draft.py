"""An upload while it comes: its bytes are written beside the uploads, and held against what was announced."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO

from lab_core.errors import Violation
from lab_server.errors import InvalidRequest
from lab_server.files.uploads import UploadStore
from lab_server.model.upload import Upload
from lab_server.model.upload_manifest import Manifest


class UploadDraft:
    """Takes the bytes of files one after the other; use it as a context manager.

    Args:
        store: keeps the upload once it is whole.
        manifest: what was announced; it has no problems.
    """

    def __init__(self, store: UploadStore, manifest: Manifest) -> None:
        self._store = store
        self._manifest = manifest
        self._files = manifest.files
        self._num_begun = 0
        self._file: IO[bytes] | None = None
        self._num_missing = 0

    def __enter__(self) -> UploadDraft:
        self._store.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = Path(tempfile.mkdtemp(prefix="draft-", dir=self._store.folder))
        self._begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()
        shutil.rmtree(self._path, ignore_errors=True)  # unless it was kept, and is elsewhere

    def write(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            InvalidRequest: If they are more than was announced, or others.
        """
        while data:
            if self._file is None:
                raise _invalid("more bytes were sent than the manifest says")
            part, data = data[: self._num_missing], data[self._num_missing :]
            self._file.write(part)
            self._hash.update(part)
            self._num_missing -= len(part)
            if not self._num_missing:
                self._end_file(self._file)
                self._begin()

    def finish(self, owner: str) -> Upload:
        """Return the upload, which is kept from now on.

        Raises:
            InvalidRequest: If bytes are missing.
        """
        if self._file is not None:
            path = self._files[self._num_begun - 1].path
            raise _invalid(f"{path!r} is not whole: {self._num_missing} bytes are missing")
        return self._store.keep(self._path, self._manifest, owner)

    def _begin(self) -> None:
        """Open the next file; those without bytes are made on the way."""
        while self._file is None and self._num_begun < len(self._files):
            file = self._files[self._num_begun]
            self._num_begun += 1
            target = self._path / "files" / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            self._file = target.open("xb")
            self._hash = hashlib.sha256()
            self._num_missing = file.size_bytes
            if not file.size_bytes:
                self._end_file(self._file)

    def _end_file(self, opened: IO[bytes]) -> None:
        opened.flush()
        os.fsync(opened.fileno())  # a run that is retried after a power cut needs it
        opened.close()
        self._file = None
        file = self._files[self._num_begun - 1]
        if self._hash.hexdigest() != file.sha256:
            raise _invalid(f"{file.path!r} has another content than its SHA-256 says")


def _invalid(sentence: str) -> InvalidRequest:
    return InvalidRequest([Violation("files", sentence)])

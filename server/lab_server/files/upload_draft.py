"""An upload while it comes: its bytes are written beside the uploads, and held against what was announced."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from types import TracebackType

from lab_core.errors import Violation
from lab_server.errors import DamagedFile, InvalidRequest
from lab_server.files.arriving import ArrivingFile
from lab_server.files.uploads import UploadStore
from lab_server.model.upload import Upload
from lab_server.model.upload_manifest import Manifest, ManifestFile


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
        self._file: ArrivingFile | None = None

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
            part, data = data[: self._file.num_missing], data[self._file.num_missing :]
            self._file.write(part)
            if not self._file.num_missing:
                self._end_file(self._file)
                self._begin()

    def finish(self, *owners: str) -> Upload:
        """Return the upload, which is kept from now on.

        Args:
            owners: who sent it.

        Raises:
            InvalidRequest: If bytes are missing.
        """
        if self._file is not None:
            self._end_file(self._file)
        return self._store.keep(self._path, self._manifest, *owners)

    @property
    def _current(self) -> ManifestFile:
        return self._files[self._num_begun - 1]

    def _begin(self) -> None:
        """Open the next file; those without bytes are made on the way."""
        while self._file is None and self._num_begun < len(self._files):
            self._num_begun += 1
            place = self._path / "files" / self._current.path
            # synced: a run that is retried after a power cut needs it
            self._file = ArrivingFile(place, self._current.size_bytes)
            if not self._file.num_missing:
                self._end_file(self._file)

    def _end_file(self, file: ArrivingFile) -> None:
        self._file = None
        try:
            file.finish(self._current.sha256)
        except DamagedFile as error:
            raise _invalid(f"{self._current.path!r} {error.problem}") from None


def _invalid(sentence: str) -> InvalidRequest:
    return InvalidRequest([Violation("files", sentence)])

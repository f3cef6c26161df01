"""Downloading a file of a run: in chunks, hashed, resumed by offset, renamed when it is whole."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import BinaryIO

from google.protobuf.message import Message

from lab_client.errors import DownloadError, LabError
from lab_rpc.v1 import training_service_pb2 as pb

_CHUNK_BYTES = 1024 * 1024


class Download:
    """One file: a resumable stream into a partial file beside the target.

    Args:
        run_id: the run.
        path: the file's path below the run's folder.
        to: the file to write, or a folder to write it into: one that is there, or ends with a slash; None is
            the working folder.

    Attributes:
        target: the file to write.
        is_done: whether it is written.
    """

    rpc = "DownloadArtifact"
    is_enough = False

    def __init__(self, run_id: str, path: str, to: str | os.PathLike[str] | None) -> None:
        name = PurePosixPath(path).name
        if name in ("", "..") or "\0" in path:
            raise DownloadError(f"{path!r} is no file's path")
        target = Path(to).expanduser() if to is not None else Path(name)
        is_folder = target.is_dir() or (to is not None and os.fspath(to).endswith(os.sep))
        self.target = target / name if is_folder else target
        self.is_done = False
        self.what = f"downloading {path} of run {run_id}"
        self._run_id = run_id
        self._path = path
        # The partial file belongs to one file of one run: no other's bytes are ever resumed.
        tag = hashlib.sha256(f"{run_id}\n{path}".encode("utf-8", "surrogatepass")).hexdigest()[:8]
        self._part = self.target.with_name(f".{self.target.name}.{tag}.part")
        self._file: BinaryIO | None = None
        self._hash = hashlib.sha256()
        self._offset = 0
        self._had_part = False
        self._expected = ""

    def __enter__(self) -> Download:
        try:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._part.open("a+b")
            self._file.seek(0)
            while chunk := self._file.read(_CHUNK_BYTES):
                self._hash.update(chunk)
                self._offset += len(chunk)
        except OSError as error:
            raise DownloadError(f"cannot write {self.target}: {error.strerror}") from None
        self._had_part = self._offset > 0
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()
        if not self.is_done and self._offset == 0:
            self._part.unlink(missing_ok=True)

    @property
    def is_complete(self) -> bool:
        """Whether the server said the hash, which comes with the last bytes."""
        return bool(self._expected)

    def request(self) -> Message:
        """Ask for the bytes that are still missing."""
        return pb.DownloadArtifactRequest(run_id=self._run_id, path=self._path, offset=self._offset)

    def receive(self, response: pb.DownloadArtifactResponse) -> tuple[int]:
        """Write a piece and return how many bytes there are now."""
        assert self._file is not None
        try:
            self._file.write(response.data)
        except OSError as error:
            raise DownloadError(f"cannot write {self._part}: {error.strerror}") from None
        self._hash.update(response.data)
        self._offset += len(response.data)
        self._expected = response.sha256 or self._expected
        return (self._offset,)

    def finish(self) -> None:
        """Verify the hash and rename; when old bytes were wrong, begin anew, once.

        Raises:
            DownloadError: if what came is not what the server has.
        """
        assert self._file is not None
        if self._hash.hexdigest() == self._expected:
            self._file.close()
            try:
                self._part.replace(self.target)
            except OSError as error:
                raise DownloadError(f"cannot write {self.target}: {error.strerror}") from None
            self.is_done = True
            return
        self.restart(DownloadError(f"{self._path} arrived damaged; download it again"))

    def restart(self, reason: LabError) -> None:
        """Drop what there is, when an earlier try left some of it; else raise the reason."""
        assert self._file is not None
        self._file.truncate(0)
        self._hash = hashlib.sha256()
        self._offset = 0
        self._expected = ""
        if not self._had_part:
            raise reason
        self._had_part = False

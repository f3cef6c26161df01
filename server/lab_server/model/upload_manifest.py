"""What an upload is to consist of: its module, and each file with its size and hash."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from lab_core.errors import Violation
from lab_rpc import uploads as rules

_MAX_TOLD = 10
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """A file that is announced."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is announced of an upload before its bytes come."""

    module: str
    files: tuple[ManifestFile, ...]

    @property
    def upload_id(self) -> str:
        """The id of an upload with this content."""
        return rules.upload_id(self.module, {file.path: file.sha256 for file in self.files})

    def problems(self) -> list[Violation]:
        """Return what keeps it from being taken, [] for nothing."""
        if not 1 <= len(self.files) <= rules.MAX_FILES:
            sentence = f"files must be between 1 and {rules.MAX_FILES}, got {len(self.files)}"
            return [Violation("files", sentence)]
        found = []
        paths = [file.path for file in self.files]
        size = sum(file.size_bytes for file in self.files)
        if size > rules.MAX_BYTES:
            sentence = f"code may have at most {rules.MAX_BYTES} bytes, got {size}"
            found.append(Violation("files", sentence))
        if problem := rules.module_problem(self.module, paths):
            sentence = f"{self.module[:100]!r} cannot be run: {problem}"
            found.append(Violation("module", sentence))
        told = [*_path_problems(paths), *_hash_problems(self.files)]
        return found + [Violation("files", sentence) for sentence in told[:_MAX_TOLD]]


def _path_problems(paths: Sequence[str]) -> Iterator[str]:
    folders = {str(folder) for path in paths for folder in PurePosixPath(path).parents}
    for path, count in Counter(paths).items():
        if problem := rules.path_problem(path):
            yield f"{path[:100]!r} cannot be sent: {problem}"
        elif count > 1:
            yield f"{path[:100]!r} is there {count} times"
        elif path in folders:
            yield f"{path[:100]!r} is a file and a folder"


def _hash_problems(files: Iterable[ManifestFile]) -> Iterator[str]:
    for file in files:
        if not _SHA256.fullmatch(file.sha256):
            yield f"the SHA-256 of {file.path[:100]!r} is not 64 hexadecimal digits"

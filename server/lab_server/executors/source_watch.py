"""Whether the files that a generation has imported are still the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lab_server.files import stamps
from lab_server.files.stamps import Stamp


class SourceWatch:
    """Compares files with what they were: cheaply by their times, and by hash where those differ.

    Args:
        files: the stamps of files and folders, by path.
    """

    def __init__(self, files: Mapping[str, Stamp]) -> None:
        self._files = dict(files)

    @classmethod
    def of_json(cls, files: Mapping[str, Any]) -> SourceWatch:
        """Watch what a generation says that it is made of."""
        return cls({path: Stamp.from_json(data) for path, data in files.items()})

    @classmethod
    def of_now(cls, paths: Iterable[str]) -> SourceWatch:
        """Watch files from now on."""
        return cls({path: stamps.stamp(path) for path in paths})

    @property
    def paths(self) -> tuple[str, ...]:
        """What is watched."""
        return tuple(self._files)

    def changed(self) -> list[str]:
        """Return what has another content than it had, or is gone."""
        found = []
        for path, known in self._files.items():
            if stamps.is_unchanged(path, known):
                continue
            now = stamps.stamp(path)
            if now.sha256 == known.sha256:  # touched, or written anew with the same content
                self._files[path] = now
            else:
                found.append(path)
        return found

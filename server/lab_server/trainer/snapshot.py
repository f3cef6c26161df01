"""Imports users' modules from their source alone, and keeps what it read.

A bytecode cache counts as up to date by the source's time in seconds and its size: an edit of the same
length within the second would run the old code. What a process has read of a file is what it, and all
that are forked from it, import later: a run has one version of its code, however long it trains.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType

from lab_core.provenance import is_installed
from lab_server.files import stamps
from lab_server.files.stamps import Stamp


class Snapshot:
    """The source files of users' modules, each as it was when it was first read."""

    def __init__(self) -> None:
        self._data: dict[str, bytes] = {}
        self._stamps: dict[str, Stamp] = {}

    @property
    def stamps(self) -> Mapping[str, Stamp]:
        """Every file that was read."""
        return self._stamps

    def install(self) -> None:
        """Import users' modules by this snapshot from now on."""
        sys.meta_path.insert(0, _Finder(self))
        sys.path_importer_cache.clear()  # of the process that this one was forked from

    def read(self, path: Path | str) -> bytes:
        """Return a file's content.

        Raises:
            OSError: If it was not read before, and cannot be.
        """
        name = str(path)
        data = self._data.get(name)
        if data is None:
            data, stamp = stamps.read(name)
            self._data[name], self._stamps[name] = data, stamp
            lines = data.decode("utf-8", "replace").splitlines(keepends=True)
            # what a traceback shows is what ran, also when the file was edited since
            linecache.cache[name] = (len(data), None, lines, name)
        return data

    def loader(self, name: str, path: str) -> SourceFileLoader:
        """Return what loads a module from a file by this snapshot."""
        return _Loader(name, path, self)


class _Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, snapshot: Snapshot) -> None:
        super().__init__(name, path)
        self._snapshot = snapshot

    def path_stats(self, path: str) -> Mapping[str, float]:
        raise OSError(f"{path} is loaded without a bytecode cache")

    def get_data(self, path: str) -> bytes:
        return self._snapshot.read(path)


class _Finder:
    """Asks the finders behind it, and replaces the loader of users' source files."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        for finder in sys.meta_path:
            found = None if finder is self else finder.find_spec(name, path, target)
            if found is not None:
                break
        else:
            return None
        if type(found.loader) is SourceFileLoader and not is_installed(found.loader.path):
            found.loader = self._snapshot.loader(name, found.loader.path)
            found.cached = None
        return found

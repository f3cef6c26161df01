"""The files of an experiment: its module, and what that imports of the user's own modules."""

from __future__ import annotations

import hashlib
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from lab_core.provenance._imports import imported_names
from lab_core.provenance._installed import is_installed, is_own

MAX_FILES = 1000
MAX_SOURCE_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of an experiment.

    Attributes:
        path: below the folder from which its module is imported: "my_package/sine.py".
        sha256: of its content, in hexadecimal.
        module: its module's name.
        location: where it lies.
        data: its content.
    """

    path: str
    sha256: str
    module: str
    location: Path
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Code:
    """The code of an experiment.

    Attributes:
        module: the module of its config class.
        name: the class, "" without one.
        path: the module's file, "" if it has none.
        files: by path: the module and the modules that it imports, directly or not, by import statements,
            without installed ones: those of the standard library, of site-packages and of lab-train. Of an
            installed package, the modules of that package.
        num_left_out: files that are beyond MAX_FILES or MAX_SOURCE_BYTES, and in nothing of this.
    """

    module: str
    name: str
    path: str
    files: tuple[SourceFile, ...]
    num_left_out: int = 0

    @property
    def digest(self) -> str:
        """SHA-256 in hexadecimal over module, class, and the paths and hashes of the files.

        Equal code has equal digests, wherever it lies.
        """
        lines = [f"{self.module}:{self.name}", *(f"{f.sha256}  {f.path}" for f in self.files)]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return what identifies it, without the files' content."""
        return {
            "module": self.module,
            "name": self.name,
            "path": self.path,
            "digest": self.digest,
            "files": {file.path: file.sha256 for file in self.files},
            "num_left_out": self.num_left_out,
        }


def code_of(
    configs: type | None,
    *,
    with_script: bool = False,
    read: Callable[[Path], bytes] = Path.read_bytes,
    folders: Sequence[str] = (),
) -> Code:
    """Return the code of a config class.

    A file that cannot be read is left out: it was removed meanwhile, say.

    Args:
        configs: the class; None for the code of the script alone.
        with_script: also that of the script that this process runs.
        read: returns a file's content.
        folders: where modules that are not imported yet are looked for first, before `sys.path`.
    """
    finder = _Finder([*folders, *sys.path])
    script = finder.add_script()
    module = script if configs is None else configs.__module__
    if module == "__main__":
        module = script or module
    files: dict[str, SourceFile] = {}
    num_bytes = num_left_out = 0
    root = module.partition(".")[0]
    starts = {module, script} - {""} if with_script else {module}
    waiting = deque(sorted(starts | {name for start in starts for name in _packages(start)}))
    seen = set(waiting)
    while waiting:
        name = waiting.popleft()
        found = finder.find(name)
        if found is None or (name not in starts and not is_own(name, found.location, root)):
            continue
        try:
            data = read(found.location)
        except OSError:
            continue
        if len(files) >= MAX_FILES or num_bytes + len(data) > MAX_SOURCE_BYTES:
            num_left_out += 1
            continue
        num_bytes += len(data)
        sha256 = hashlib.sha256(data).hexdigest()
        files[found.path] = SourceFile(found.path, sha256, name, found.location, data)
        new = sorted(finder.imports_of(found, data, root) - seen)
        seen.update(new)
        waiting.extend(new)
    own = finder.find(module)
    path = "" if own is None else str(own.location)
    in_order = tuple(files[key] for key in sorted(files))
    name = "" if configs is None else configs.__qualname__
    return Code(module, name, path, in_order, num_left_out)


@dataclass(frozen=True, slots=True)
class _Found:
    """A module in a file, imported or not."""

    name: str
    location: Path
    is_package: bool

    @property
    def path(self) -> str:
        """Below the folder that it is imported from."""
        parts = self.name.split(".")
        return "/".join([*(parts if self.is_package else parts[:-1]), self.location.name])


class _Finder:
    """Finds modules by name: imported ones, and others without importing them or their packages."""

    def __init__(self, path: Sequence[str]) -> None:
        self._path = path
        self._found: dict[str, tuple[_Found | None, Sequence[str]]] = {}

    def add_script(self) -> str:
        """Make the script known by the name under which it could be imported, and return that.

        It is "" without a script of the user's: in a notebook, say, or a test.
        """
        main = sys.modules["__main__"]
        spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
        if file is None or is_installed(file):
            return ""
        name = Path(file).stem if spec is None else str(spec.name)
        self._found[name] = _of_loaded(name, main)
        return name

    def find(self, name: str) -> _Found | None:
        """Return a module, None if there is none that is in a file."""
        return self._find(name)[0]

    def imports_of(self, found: _Found, data: bytes, root: str) -> set[str]:
        """Return the names of what may be modules of the user's that a module imports, packages too."""
        names: set[str] = set()
        if found.location.suffix != ".py":
            return names  # an extension module, say
        for name in imported_names(data, found.name, found.is_package):
            package = name.partition(".")[0]
            top, inner = self._find(package)
            if top is not None and not is_own(package, top.location, root):
                continue
            if top is not None or inner:
                names.update((name, *_packages(name)))
        return names

    def _find(self, name: str) -> tuple[_Found | None, Sequence[str]]:
        """Return a module, and the folders in which its submodules are."""
        if name not in self._found:
            module = sys.modules.get(name)
            self._found[name] = _of_loaded(name, module) if module else self._search(name)
        return self._found[name]

    def _search(self, name: str) -> tuple[_Found | None, Sequence[str]]:
        package = name.rpartition(".")[0]
        path = self._find(package)[1] if package else self._path
        try:
            spec = PathFinder.find_spec(name, path) if path else None
        except (ImportError, ValueError, OSError):
            spec = None
        if spec is None:
            return None, ()
        inner = list(spec.submodule_search_locations or ())
        if not spec.has_location or spec.origin is None:
            return None, inner
        is_package = spec.submodule_search_locations is not None
        return _Found(name, Path(spec.origin).absolute(), is_package), inner


def _packages(name: str) -> list[str]:
    """Return the names of the packages that a module is in, which are imported with it."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def _of_loaded(name: str, module: ModuleType) -> tuple[_Found | None, Sequence[str]]:
    inner: Sequence[str] = list(getattr(module, "__path__", ()))
    file = getattr(module, "__file__", None)
    if not isinstance(file, str):
        return None, inner
    return _Found(name, Path(file).absolute(), hasattr(module, "__path__")), inner

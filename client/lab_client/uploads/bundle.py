"""Code to send: an experiment's module, with the modules beside it that it imports."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TypeAlias

from lab_client.errors import InvalidRequest, UploadError, Violation
from lab_client.uploads.folders import IGNORE_FILE, files_of
from lab_client.uploads.imports import imported_roots
from lab_rpc import uploads as rules

CodeSource: TypeAlias = "str | os.PathLike[str] | ModuleType"

_INSTALLED = frozenset({"site-packages", "dist-packages"})


@dataclass(frozen=True)
class Bundle:
    """Code, as it was when it was collected; give it to `create` and `plan` in place of a name.

    Attributes:
        module: the module that has the experiments.
        files: content by path.
        experiment: which of its experiments; empty when it has one.

    Example:
        >>> from lab_client import Client
        >>> from lab_client.uploads.bundle import collect
        >>> code = collect("./sine.py")  # doctest: +SKIP
        >>> with Client() as client:  # doctest: +SKIP
        ...     for seed in range(3):
        ...         client.create(code, {"seed": seed}).start()
    """

    module: str
    files: dict[str, bytes] = field(repr=False)
    experiment: str = ""

    @cached_property
    def hashes(self) -> dict[str, str]:
        """The SHA-256 of each file, in hexadecimal, by path."""
        return {path: hashlib.sha256(data).hexdigest() for path, data in self.files.items()}

    @cached_property
    def id(self) -> str:
        """What the server calls it: the same content has the same id."""
        return rules.upload_id(self.module, self.hashes)


def is_code(source: CodeSource) -> bool:
    """Whether an argument means code to send, and not an experiment that the server has.

    Text does if it is a path: if it ends with `.py` or has a slash, behind which `:NAME` may stand.
    """
    if not isinstance(source, str):
        return True
    path = _split(source)[0]
    return path.endswith(".py") or "/" in path


def refuse_code(experiment: str) -> None:
    """Let pass only the name of an experiment that the server has: a search makes runs while no client is there.

    Raises:
        InvalidRequest: If it is code to send.
    """
    if is_code(experiment):
        sentence = (
            "a search is of an experiment that the server has, not of code that is sent; have it served: "
            f"lab-server serve --experiments {experiment}"
        )
        raise InvalidRequest([Violation("experiment", sentence)])


def collect(source: CodeSource) -> Bundle:
    """Return the code of a file, a package or a module.

    A file is sent with the modules and packages beside it that it imports, by import statements; a package
    whole, without what its `.labignore` names. Nothing is imported.

    Args:
        source: a path, "sine.py", "./my_package" or "my_package/sine.py"; behind it may stand which
            experiment, "sine.py:small". Or an imported module.

    Raises:
        UploadError: If there is no such file, or it cannot be sent.
    """
    path, experiment = _path_of(source)
    if path.is_symlink():
        raise UploadError(f"{path} is a link; give the file itself")
    path = path.absolute()
    if path.is_dir() and not (path / "__init__.py").is_file():
        raise UploadError(
            f"{path} is no package: it has no __init__.py; give the experiment's file: {path}/NAME.py"
        )
    if not path.is_dir() and (path.suffix != ".py" or not path.is_file()):
        problem = "is not a Python file" if path.exists() else "is not there"
        raise UploadError(f"{path} {problem}; code is a file NAME.py or a package's folder")
    if not _INSTALLED.isdisjoint(path.parts):
        raise UploadError(
            f"{path} is installed here; code to send is your own: install the package on the server instead"
        )
    root = path.parent
    while (root / "__init__.py").is_file():
        root = root.parent
    parts = path.relative_to(root).with_suffix("").parts
    module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    files = _read_all(root, path if path.parent == root else root / parts[0])
    return Bundle(module, files, experiment)


def _path_of(source: CodeSource) -> tuple[Path, str]:
    if isinstance(source, ModuleType):
        file = getattr(source, "__file__", None)
        if not isinstance(file, str):
            raise UploadError(f"module {source.__name__!r} is in no file, so it cannot be sent")
        return Path(file), ""
    text, experiment = _split(os.fspath(source))
    return Path(text).expanduser(), experiment


def _split(text: str) -> tuple[str, str]:
    path, colon, name = text.rpartition(":")
    return (path, name) if colon and "/" not in name else (text, "")


def _read_all(root: Path, start: Path) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    size = 0
    waiting, seen = deque([start]), {start}
    while waiting:
        for file in _files_at(waiting.popleft()):
            try:
                data = file.read_bytes()
            except OSError as error:
                raise UploadError(f"cannot read {file}: {error.strerror}") from None
            files[file.relative_to(root).as_posix()] = data
            size += len(data)
            _check_size(files, size)
            if file.suffix == ".py":
                new = set(_beside(root, imported_roots(data))) - seen
                seen |= new
                waiting.extend(sorted(new))
    for path in files:
        if problem := rules.path_problem(path):
            raise UploadError(f"{root / path} cannot be sent: {problem}")
    return files


def _files_at(place: Path) -> Iterator[Path]:
    if place.is_dir():
        yield from files_of(place)
    elif place.is_symlink():
        raise UploadError(f"{place} is a link; only files can be sent")
    else:
        yield place


def _beside(root: Path, names: frozenset[str]) -> Iterator[Path]:
    """Yield the modules and packages of these names in a folder, but for those of lab-train."""
    for name in names - rules.OWN_PACKAGES:
        file, folder = root / f"{name}.py", root / name
        if (folder / "__init__.py").is_file():
            yield folder
        elif file.is_file():
            yield file
        elif any(folder.glob("*.py")):
            yield folder


def _check_size(files: dict[str, bytes], size: int) -> None:
    if size <= rules.MAX_BYTES and len(files) <= rules.MAX_FILES:
        return
    largest = sorted(files, key=lambda path: len(files[path]), reverse=True)[:3]
    told = ", ".join(f"{path} ({len(files[path]):,} bytes)" for path in largest)
    raise UploadError(
        f"code may have at most {rules.MAX_FILES} files and {rules.MAX_BYTES >> 20} MiB; the largest of what "
        f"was to be sent: {told}; name in {IGNORE_FILE}, in the package's folder, what is not code"
    )

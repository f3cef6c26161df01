"""What code a client may send: limits, paths and its id; one definition for server and client."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Mapping

MAX_BYTES = 16 << 20
MAX_FILES = 1000
MAX_PATH_CHARS = 400
MAX_PART_BYTES = 200
CHUNK_BYTES = 1 << 20

OWN_PACKAGES = frozenset({"lab_client", "lab_core", "lab_rpc", "lab_server"})


def upload_id(module: str, files: Mapping[str, str]) -> str:
    """Return the id of code: a SHA-256 in hexadecimal over its module, paths and contents.

    Args:
        module: the module that has the experiments.
        files: the SHA-256 of each file, by path.
    """
    lines = ["lab-train upload", module, *(f"{files[path]}  {path}" for path in sorted(files))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def path_problem(path: str) -> str:
    """Return a clause on why a path cannot be uploaded, "" when it can."""
    parts = path.split("/")
    if not path or len(path) > MAX_PATH_CHARS:
        return f"a path has 1 to {MAX_PATH_CHARS} characters"
    if any(part in ("", ".", "..") for part in parts):
        return "a path is relative, with neither '.' nor '..' in it"
    if "\\" in path or any(unicodedata.category(char).startswith("C") for char in path):
        return "a path has no backslash and no control characters"
    if any(len(part.encode(errors="replace")) > MAX_PART_BYTES for part in parts):
        return f"a name has at most {MAX_PART_BYTES} bytes"
    if parts[0].removesuffix(".py") in OWN_PACKAGES:
        return f"{parts[0].removesuffix('.py')} is a package of lab-train"
    return ""


def module_problem(module: str, paths: Iterable[str]) -> str:
    """Return a clause on why a module cannot be the one with the experiments, "" when it can."""
    names = module.split(".")
    if not all(name.isidentifier() for name in names):
        return "it is not the name of a module"
    stem = "/".join(names)
    if {f"{stem}.py", f"{stem}/__init__.py"}.isdisjoint(paths):
        return f"there is neither {stem}.py nor {stem}/__init__.py among the files"
    return ""

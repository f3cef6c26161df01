"""Whose a module is: the user's own, or installed, from the standard library or a package of ours."""

from __future__ import annotations

import sysconfig
from pathlib import Path

_INSTALLED = frozenset({"site-packages", "dist-packages"})
_OURS = frozenset({"lab_client", "lab_core", "lab_rpc", "lab_server"})
# at once: sysconfig imports a module of its own, and who imports may be asking
_LIBRARY_FOLDERS = tuple(
    {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")}
)


def is_installed(path: str | Path) -> bool:
    """Whether a file is of the standard library or of an installed package."""
    found = Path(path)
    if not _INSTALLED.isdisjoint(found.parts):
        return True
    return any(found.is_relative_to(folder) for folder in _LIBRARY_FOLDERS)


def is_own(module: str, path: Path, root: str) -> bool:
    """Whether a module counts as code of an experiment whose module has the top-level package `root`.

    It does if it is not installed, or is of the experiment's own package; lab-train's version stands for
    its packages.
    """
    package = module.partition(".")[0]
    if package in _OURS:
        return False
    return package == root or not is_installed(path)

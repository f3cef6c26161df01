"""Where experiments come from: the modules and files that `--experiments` names."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path


def is_file(source: str) -> bool:
    """Whether a source is a file; else it is a module."""
    return source.endswith(".py") or "/" in source


def missing_source(source: str) -> str:
    """Return a clause on what is missing of a source, "" when it is found; imports nothing of it."""
    if is_file(source):
        return "" if Path(source).is_file() else "there is no such file"
    name, locations = "", None
    # as in the forkserver, which is run by `python -m`
    sys.path.insert(0, os.getcwd())
    try:
        for part in source.split("."):
            name = f"{name}.{part}" if name else part
            spec = _find_spec(name, locations)
            if spec is None:
                return f"there is no module {name}"
            locations = list(spec.submodule_search_locations or ())
    except (KeyError, ImportError):
        return ""  # a nested namespace package, say: only its import can tell
    finally:
        sys.path.pop(0)
    return ""


def _find_spec(name: str, locations: Sequence[str] | None) -> ModuleSpec | None:
    # not importlib.util.find_spec: it imports the package that a module is in
    found = (finder.find_spec(name, locations) for finder in sys.meta_path)
    return next((spec for spec in found if spec is not None), None)

"""Packages that come with the extra `core`, and not with the thin client."""

from __future__ import annotations

import importlib
from typing import Any

from lab_core.errors import MissingPackage

_PACKAGES = {"yaml": "pyyaml"}


def require(module: str) -> Any:
    """Import a module of such a package.

    Raises:
        MissingPackage: If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise MissingPackage(_PACKAGES.get(module, module)) from error

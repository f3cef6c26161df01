"""Which code made a result, and where: its files with their hashes, the git commit, versions, the device."""

from __future__ import annotations

from lab_core.provenance._code import MAX_FILES, MAX_SOURCE_BYTES, Code, SourceFile, code_of
from lab_core.provenance._environment import Environment, read_environment
from lab_core.provenance._git import MAX_DIFF_BYTES, GitState, read_git
from lab_core.provenance._installed import is_installed

__all__ = [
    "MAX_DIFF_BYTES",
    "MAX_FILES",
    "MAX_SOURCE_BYTES",
    "Code",
    "Environment",
    "GitState",
    "SourceFile",
    "code_of",
    "is_installed",
    "read_environment",
    "read_git",
]

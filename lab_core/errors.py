"""The errors of lab_core: one tree, data as attributes, every one pickles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class LabError(Exception):
    """The base of all errors that lab raises."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One error in a config message.

    Attributes:
        key: the config item, dotted for a nested one; empty for the message as a whole.
        message: a sentence: what was wrong, what was expected, and what to do.
    """

    key: str
    message: str

    def __str__(self) -> str:
        return self.message


class ConfigError(LabError):
    """A config class or a config message is invalid; holds all violations at once."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__(tuple(violations))
        self.violations = tuple(violations)

    def __str__(self) -> str:
        return "\n".join(str(v) for v in self.violations)


class TrackerError(LabError):
    """A value that cannot be tracked, or an indicator declared twice in different ways."""


class CheckpointError(LabError):
    """A checkpoint is missing, damaged, or belongs to a different model."""


class RunNotFound(LabError):
    """There is no run with this id."""


class DataError(LabError):
    """A data set is missing or invalid."""


class SettingsError(LabError):
    """A settings file or an environment variable is invalid."""


class MissingPackage(LabError, ImportError):
    """A package is not installed that lab_core needs, and the thin client does not.

    Attributes:
        package: its name in the package index.
    """

    def __init__(self, package: str) -> None:
        super().__init__(package)
        self.package = package

    def __str__(self) -> str:
        return f"lab_core needs {self.package}: pip install 'lab-train[core]'"

"""An experiment, as the server knows it: by name and schema, never by its code."""

from __future__ import annotations

from dataclasses import dataclass

from lab_core.configs import Schema


@dataclass(frozen=True, slots=True)
class ExperimentEntry:
    """An experiment as its module describes it.

    Attributes:
        schema: None when error and traceback say why.
        code_digest: of its source files: equal code has an equal digest; "" when it could not be loaded.
    """

    name: str
    schema: Schema | None
    error: str = ""
    traceback: str = ""
    code_digest: str = ""

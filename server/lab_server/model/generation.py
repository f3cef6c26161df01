"""Which experiments a generation of processes imports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class GenerationSpec:
    """All that a generation needs to know; sent to the forkserver as JSON.

    Attributes:
        sources: modules and files with experiments, in this order.
        has_entry_points: also import those of installed packages.
        load_timeout_s: how long the imports may take; the process is ended then.
        folder: where the sources, which are modules then, are imported from: what a client sent. Nothing
            is imported from the server's working folder then. "" for none.
    """

    sources: tuple[str, ...]
    has_entry_points: bool = True
    load_timeout_s: int = 300
    folder: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the spec as plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> GenerationSpec:
        """Return the spec that `to_json` made plain."""
        return cls(**{**data, "sources": tuple(data["sources"])})

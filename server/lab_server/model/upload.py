"""Code that a client sent, as runs refer to it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload; plain data, for the store and for launch specs.

    An executor finds its files by the id, or fetches them: the same id is the same content.

    Attributes:
        id: SHA-256 over its content; see `lab_rpc.uploads.upload_id`.
        module: the module that has the experiments.
    """

    id: str
    module: str

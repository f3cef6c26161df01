"""The writers that a run was asked for."""

from __future__ import annotations

from collections.abc import Iterable

from lab_core.errors import SettingsError
from lab_core.writers import NAMES, Writer


def listed(writers: Iterable[str | Writer]) -> list[str | Writer]:
    """Return writers in an order of their own: that of a set of names changes from run to run."""
    if isinstance(writers, str):
        return [writers]
    writers = list(writers) if isinstance(writers, Iterable) else [writers]
    for writer in writers:
        if not isinstance(writer, str | Writer):
            raise SettingsError(
                f"a writer is a name, {', '.join(NAMES)}, or an object with name, write and close; got {writer!r}"
            )
    return sorted(writers, key=lambda w: (0, w) if isinstance(w, str) else (1, w.name))

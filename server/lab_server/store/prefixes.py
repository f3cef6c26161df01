"""The one id that a text names: itself, or the beginning of it."""

from __future__ import annotations

from typing import Protocol

from lab_server.errors import NotFound


class HasIds(Protocol):
    """A store of things that have ids."""

    async def ids_with_prefix(self, prefix: str, limit: int = 2) -> tuple[str, ...]:
        """Return ids that begin so."""


async def full_id(store: HasIds, what: str, text: str) -> str:
    """Return the id that a text is, or that alone begins with it.

    Args:
        store: of runs or searches.
        what: "run" or "search".
        text: as the caller gave it.

    Raises:
        NotFound: If there is none, or several.
    """
    ids = await store.ids_with_prefix(text) if text else ()
    if not ids:
        raise NotFound(what, text)
    if text not in ids and len(ids) > 1:
        hint = f"several begin with it, such as {ids[0]} and {ids[1]}; give more of the id"
        raise NotFound(what, text, hint)
    return text if text in ids else ids[0]

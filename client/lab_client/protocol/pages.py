"""Lists that come page by page: which page to ask for next, and what of it is wanted."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from lab_client.errors import UnknownName
from lab_client.protocol.calls import Operation

T = TypeVar("T")
_LARGEST = 200
_TO_THE_CALLER = 4  # from `take` over the shell's `items` and the client's method


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a list.

    Attributes:
        items: what is on it.
        next_token: asks for the page after it; empty when there is none.
        warnings: what may be wrong with the question, when nothing was found.
    """

    items: tuple[T, ...]
    next_token: str
    warnings: tuple[str, ...] = ()


class Pages(Generic[T]):
    """A list to ask for, until there is no more of it or enough came.

    Args:
        ask: returns the call for the page of a token, "" for the first one, with at most so many items.
        limit: the most items to return; None for all.

    Attributes:
        is_over: whether nothing more is to be asked for.
    """

    def __init__(self, ask: Callable[[str, int], Operation[Page[T]]], limit: int | None = None):
        self._ask, self._left, self._token = ask, limit, ""
        self.is_over = limit is not None and limit <= 0

    def next_call(self) -> Operation[Page[T]]:
        """Ask for the next page."""
        return self._ask(self._token, min(_LARGEST, self._left or _LARGEST))

    def take(self, page: Page[T]) -> tuple[T, ...]:
        """Note a page, warn of what it warns of, and return what of it is wanted."""
        for warning in page.warnings:
            warnings.warn(warning, UnknownName, stacklevel=_TO_THE_CALLER)
        items = page.items[: self._left]
        if self._left is not None:
            self._left -= len(items)
        self._token = page.next_token
        self.is_over = not self._token or self._left == 0
        return items

"""Which page of a list to ask for next."""

from __future__ import annotations

import warnings

from lab_client.errors import UnknownName
from lab_client.runs import RunInfo, RunPage


class Pages:
    """Which page of runs to ask for next, until there are no more or enough came.

    Args:
        limit: the most runs to return; None for all.
    """

    _LARGEST = 200

    def __init__(self, limit: int | None) -> None:
        self._left = limit
        self.token = ""
        self.is_over = limit is not None and limit <= 0

    @property
    def size(self) -> int:
        """The size of the page to ask for."""
        return self._LARGEST if self._left is None else min(self._LARGEST, self._left)

    def take(self, page: RunPage) -> tuple[RunInfo, ...]:
        """Note a page, warn of what it warns of, and return what of it is wanted."""
        for warning in page.warnings:
            warnings.warn(warning, UnknownName, stacklevel=3)
        runs = page.runs if self._left is None else page.runs[: self._left]
        if self._left is not None:
            self._left -= len(runs)
        self.token = page.next_page_token
        self.is_over = not self.token or self._left == 0
        return runs

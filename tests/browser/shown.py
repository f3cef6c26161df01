"""What there is to see on pages: runs that ended, one that failed, one with a nasty name, and a search."""

from __future__ import annotations

from dataclasses import dataclass

EVIL = '<img src=x onerror="window.evil=1">\u202egnp'


@dataclass
class Shown:
    """What the module's server has to show."""

    url: str
    first: str
    nasty: str
    failed: str
    painted: str
    long: str
    created: str
    search: str

    def address(self, path: str) -> str:
        """Return the URL of a path with names in braces."""
        return self.url + path.format_map(vars(self))

"""Lists in one text, as flags and the environment have them: separated by commas."""

from __future__ import annotations


def split_at_commas(*texts: str) -> tuple[str, ...]:
    """Return what texts name: "a, b" and "c" name a, b and c."""
    return tuple(part.strip() for text in texts for part in text.split(",") if part.strip())

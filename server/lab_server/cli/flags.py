"""The flags of `lab-server serve`, read without typer: it and what it imports are a sixth of a server's start.

Typer reads those of all other commands, and of this one where something is wrong, or help is wanted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, get_origin

from lab_server.settings.fields import settings_of
from lab_server.settings.settings import Settings

FILE_ONLY: Final = ("pools",)
"""Settings that are no flags."""


def read_flags(arguments: Sequence[str]) -> dict[str, Any] | None:
    """Return the values of flags by name, and "config"; None if these are not just flags with values."""
    kinds = {name: each.kind for name, each in settings_of(Settings).items()} | {"config": str}
    flags: dict[str, Any] = {}
    words = iter(arguments)
    for word in words:
        if not word.startswith("--"):
            return None
        flag, is_joined, text = word[2:].partition("=")
        name = flag.replace("-", "_")
        is_off = name not in kinds and name.startswith("no_")
        name = name.removeprefix("no_") if is_off else name
        kind = kinds.get(name)
        if kind is None or "_" in flag or name in FILE_ONLY or (is_off and kind is not bool):
            return None
        if kind is bool:
            if is_joined:
                return None
            flags[name] = not is_off
            continue
        value = text if is_joined else _value(words)
        if value is None:
            return None
        flags[name] = (*flags.get(name, ()), value) if get_origin(kind) is tuple else value
    return flags


def _value(words: Iterator[str]) -> str | None:
    value = next(words, None)
    return None if value is None or value.startswith("-") else value

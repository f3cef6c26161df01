"""What the .proto files say beside their fields, for the API's document."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Final

_MESSAGE: Final = re.compile(r"^\s*message (\w+) \{(\})?")
_FIELD: Final = re.compile(r"^\s*(?:repeated |optional )?[\w.<>, ]+ (\w+) = \d+;")


@cache
def comments() -> Mapping[tuple[str, str], str]:
    """Return the comments by message and field; with the field "", that of the message itself."""
    found: dict[tuple[str, str], str] = {}
    for path in (resources.files("lab_rpc") / "v1").iterdir():
        if path.name.endswith(".proto"):
            _read(path.read_text(encoding="utf-8"), found)
    return found


def _read(text: str, found: dict[tuple[str, str], str]) -> None:
    message, above = "", []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("//"):
            above.append(stripped.removeprefix("//").strip())
            continue
        if (match := _MESSAGE.match(line)) is not None:
            message = match[1]
            found[message, ""] = " ".join(above)
        elif (match := _FIELD.match(line)) is not None:
            found[message, match[1]] = " ".join(above)
        above = []

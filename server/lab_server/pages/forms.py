"""Forms: what a page sent, as texts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from lab_server.api.bodies import read_body
from lab_server.api.errors import Refused


class Form:
    """The fields of a form that a page sent."""

    def __init__(self, fields: Mapping[str, list[str]]) -> None:
        self._fields = fields

    def text(self, name: str) -> str:
        """Return a field without space around it, "" when it is not there."""
        return self._fields.get(name, [""])[0].strip()

    def texts(self, name: str) -> list[str]:
        """Return all values of a field."""
        return self._fields.get(name, [])

    def whole(self, name: str) -> int:
        """Return a field that is a whole number; 0 when it is empty.

        Raises:
            Refused: If it is none.
        """
        text = self.text(name)
        try:
            return int(text or 0)
        except ValueError:
            raise Refused(
                400, "BAD_FIELD", f"{name} must be a whole number, got {text[:100]!r}"
            ) from None

    def __iter__(self) -> Any:
        """Yield the names."""
        return iter(self._fields)


async def read_form(request: web.Request) -> Form:
    """Return the form in a request's body.

    Raises:
        Refused: If it is none, too large or too slow.
    """
    if request.content_type != "application/x-www-form-urlencoded":
        raise Refused(415, "NOT_A_FORM", "the body must be a form")
    await read_body(request)
    try:
        sent = await request.post()
    except (ValueError, LookupError):  # an unknown charset, bytes that are none of it
        raise Refused(400, "BAD_FORM", "the form cannot be read") from None
    fields: dict[str, list[str]] = {}
    for name, value in sent.items():
        if isinstance(value, str):
            fields.setdefault(name, []).append(_clean(value))
    return Form(fields)


def parse_value(text: str, kind: str) -> Any:
    """Return the config value that a person wrote: text where the item is one, else as JSON has it."""
    if kind == "str":
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {"True": True, "False": False, "None": None}.get(text, text)
    return text if isinstance(value, dict) else value


def _clean(text: str) -> str:
    # halves of surrogate pairs, which no message can carry
    return text.replace("\r\n", "\n").encode("utf-8", "replace").decode()

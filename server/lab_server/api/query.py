"""The query of a GET as fields of its request."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from aiohttp import web
from google.protobuf.descriptor import FieldDescriptor

from lab_core.errors import Violation
from lab_server.errors import InvalidRequest


def query_to_json(request: web.Request, fields: Iterable[Any]) -> dict[str, Any]:
    """Return the parameters as JSON, each with its field's type; a list has its name several times.

    Raises:
        InvalidRequest: If a parameter is unknown, given twice, or not of its type.
    """
    known = {field.name: field for field in fields}
    data: dict[str, Any] = {}
    violations = []
    for name in dict.fromkeys(request.query.keys()):
        texts = request.query.getall(name)
        field = known.get(name)
        if field is None:
            close = difflib.get_close_matches(name[:100], known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
            hint = hint if known else "there are none"
            message = f"{name[:100]!r} is not a parameter of this path; {hint}"
            violations.append(Violation(name[:100], message))
        elif field.is_repeated:
            data[name] = texts
        elif len(texts) > 1:
            violations.append(Violation(name, f"{name} is given {len(texts)} times"))
        else:
            data[name] = _parse(field, texts[0])
    if violations:
        raise InvalidRequest(violations)
    return data


def _parse(field: Any, text: str) -> Any:
    """Return a text as JSON would have it; the text itself where it does not fit, for a clear error."""
    try:
        match field.type:
            case FieldDescriptor.TYPE_BOOL:
                return {"true": True, "false": False}.get(text, text)
            case FieldDescriptor.TYPE_DOUBLE:
                return float(text)
            case FieldDescriptor.TYPE_STRING | FieldDescriptor.TYPE_ENUM:
                return text
            case _:
                return int(text)
    except ValueError:
        return text

"""The parameters of paths that are no RPC, each with its type and range."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from aiohttp import web

from lab_core.errors import Violation
from lab_server.errors import InvalidRequest

_MAX_TEXT_CHARS = 200


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter in the query.

    Attributes:
        kind: "list" is several texts.
        low, high: the range of a number, and of how many texts a list has.
        choices: what a text may be, or each of a list; none for any.
        default: without it; None for one that must be given.
    """

    kind: Literal["int", "float", "text", "list"]
    doc: str
    default: Any = None
    low: float = -math.inf
    high: float = math.inf
    choices: Sequence[str] = ()


def read_parameters(request: web.Request, known: Mapping[str, Parameter]) -> dict[str, Any]:
    """Return the parameters of a request.

    Raises:
        InvalidRequest: With all that are unknown, missing, given twice, or not in their range.
    """
    violations = []
    found: dict[str, Any] = {}
    for name in dict.fromkeys(request.query.keys()):
        if name not in known:
            message = (
                f"{name[:100]!r} is not a parameter of this path; there are {', '.join(known)}"
            )
            violations.append(Violation(name[:100], message))
    for name, parameter in known.items():
        texts = request.query.getall(name, [])
        try:
            found[name] = _read(name, parameter, texts)
        except ValueError as error:
            violations.append(Violation(name, str(error)))
    if violations:
        raise InvalidRequest(violations)
    return found


def describe(known: Mapping[str, Parameter]) -> list[dict[str, Any]]:
    """Return the parameters as an OpenAPI document has them."""
    return [
        {
            "name": name,
            "in": "query",
            "required": parameter.default is None,
            "description": parameter.doc,
            "schema": _schema(parameter),
        }
        for name, parameter in known.items()
    ]


def _read(name: str, parameter: Parameter, texts: Sequence[str]) -> Any:
    if parameter.kind == "list":
        if not parameter.low <= len(texts) <= parameter.high:
            raise ValueError(
                f"{name} must be given {parameter.low:.0f} to {parameter.high:.0f} times, got {len(texts)}"
            )
        if any(len(text) > _MAX_TEXT_CHARS for text in texts):
            raise ValueError(f"{name} may have at most {_MAX_TEXT_CHARS} characters")
        for text in texts:
            _check_choice(name, parameter, text)
        return list(texts)
    if len(texts) > 1:
        raise ValueError(f"{name} is given {len(texts)} times")
    if not texts:
        if parameter.default is None:
            raise ValueError(f"{name} must be given")
        return parameter.default
    if parameter.kind == "text":
        _check_choice(name, parameter, texts[0])
        return texts[0]
    return _number(name, parameter, texts[0])


def _check_choice(name: str, parameter: Parameter, text: str) -> None:
    if parameter.choices and text not in parameter.choices:
        choices = ", ".join(parameter.choices)
        raise ValueError(f"{name} must be one of {choices}, got {text[:100]!r}")


def _number(name: str, parameter: Parameter, text: str) -> float:
    what = "a whole number" if parameter.kind == "int" else "a number"
    try:
        value = int(text) if parameter.kind == "int" else float(text)
    except ValueError:
        raise ValueError(f"{name} must be {what}, got {text[:100]!r}") from None
    if not math.isfinite(value):
        raise ValueError(f"{name} must be {what}, got {text[:100]!r}")
    if not parameter.low <= value <= parameter.high:
        raise ValueError(f"{name} must be between {parameter.low:g} and {parameter.high:g}")
    return value


def _schema(parameter: Parameter) -> dict[str, Any]:
    choices = {"enum": list(parameter.choices)} if parameter.choices else {}
    if parameter.kind == "list":
        items = {"type": "string", "maxLength": _MAX_TEXT_CHARS, **choices}
        least, most = int(parameter.low), int(parameter.high)
        return {"type": "array", "items": items, "minItems": least, "maxItems": most}
    if parameter.kind == "text":
        return {"type": "string", **choices}
    limits = {"minimum": parameter.low, "maximum": parameter.high}
    kind = "integer" if parameter.kind == "int" else "number"
    return {"type": kind, **{name: v for name, v in limits.items() if math.isfinite(v)}}

"""What stands to the right of a comparison: a word as the value that its name asks for."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Final

from lab_core.configs.schema.suggest import did_you_mean
from lab_rpc.run_names import Kind
from lab_server.model.run import RunState
from lab_server.where.condition import Operand
from lab_server.where.tokens import Token

_DURATION: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(s|min|m|h|d|w)?")
_SECONDS: Final = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_LARGEST_INT: Final = 2**63
_MAX_DURATION_S: Final = 1e12
_STATES: Final = [state.value.lower() for state in RunState]


class Misfit(Exception):
    """A word is no value of the kind that is asked for; the text says what is."""


def operand_of(kind: Kind, token: Token) -> Operand:
    """Return the value that a word means where something of a kind is compared.

    Raises:
        Misfit: If it means none.
    """
    if token.is_word("none", "null"):
        return None
    return _READERS[kind](token)


def day_of(token: Token) -> tuple[int, int] | None:
    """Return the first nanosecond of the day that a token names and of the next; None for no day."""
    try:
        day = _named_day(token.text) or date.fromisoformat(token.text)
        following = day + timedelta(days=1)
    except (ValueError, OverflowError):
        return None
    return _ns(_midnight(day)), _ns(_midnight(following))


def number(token: Token) -> int | float | None:
    """Return the number that a word is, None when it is none."""
    if token.kind != "word" or "_" in token.text:
        return None
    try:
        whole = int(token.text)
    except ValueError:
        try:
            return float(token.text)
        except ValueError:
            return None
    # as a text: a number of 400 digits is too large for a float, and so infinite
    return whole if -_LARGEST_INT <= whole < _LARGEST_INT else float(token.text)


def _text(token: Token) -> str:
    return token.text


def _state(token: Token) -> str:
    if token.text.lower() not in _STATES:
        hint = did_you_mean(token.text.lower(), _STATES)
        raise Misfit(f"there is no state {token.text[:60]!r}{hint}")
    return token.text.upper()


def _number(token: Token) -> int | float:
    found = number(token)
    if found is None or math.isnan(found):
        raise Misfit(f"expected a number, found {token}")
    return found


def _metric(token: Token) -> int | float:
    found = number(token)
    if found is None:
        raise Misfit(f"expected a number, found {token}; a metric is one")
    return found


def _value(token: Token) -> Operand:
    if token.is_word("true", "false"):
        return token.text.lower() == "true"
    found = number(token)
    return token.text if found is None else found


def _duration(token: Token) -> float:
    found = _DURATION.fullmatch(token.text)
    if found is None or token.kind != "word":
        raise Misfit(f"expected a duration, such as 90s, 5min, 2h or 3d, found {token}")
    return min(float(found[1]) * _SECONDS[found[2] or "s"], _MAX_DURATION_S)


def _time(token: Token) -> int:
    day = day_of(token)
    if day is not None:
        return day[0]
    try:
        moment = datetime.fromisoformat(token.text)
        return _ns(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        raise Misfit(
            f"expected a time, such as 2026-11-20, 2026-11-20T14:30 or today (UTC), found {token}"
        ) from None


def _named_day(text: str) -> date | None:
    today = datetime.now(UTC).date()
    match text.lower():
        case "today":
            return today
        case "yesterday":
            return today - timedelta(days=1)
    return None


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _ns(moment: datetime) -> int:
    microseconds = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return max(-_LARGEST_INT, min(microseconds * 1000, _LARGEST_INT - 1))


_READERS: Final[dict[Kind, Callable[[Token], Operand]]] = {
    Kind.TEXT: _text,
    Kind.STATE: _state,
    Kind.TAGS: _text,
    Kind.NUMBER: _number,
    Kind.TIME: _time,
    Kind.DURATION: _duration,
    Kind.METRIC: _metric,
    Kind.CONFIG: _value,
    Kind.VALUE: _value,
}

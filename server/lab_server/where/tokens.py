"""The words and signs of a condition, each with its place in the text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from lab_core.errors import Violation
from lab_server.errors import InvalidRequest

TokenKind = Literal["word", "quoted", "sign", "end"]

_TOKEN: Final = re.compile(
    r"""\s*(?:
    (?P<sign><=|>=|==|!=|!~|[<>=~(),\[\]])
    |(?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<word>[^\s<>=~!(),\[\]"']+)
    )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Token:
    """One word or sign.

    Attributes:
        text: without quotes, for a quoted text.
        position: of its first character.
    """

    kind: TokenKind
    text: str
    position: int

    def is_word(self, *words: str) -> bool:
        """Whether it is one of these words, in any case."""
        return self.kind == "word" and self.text.lower() in words

    def is_sign(self, *signs: str) -> bool:
        """Whether it is one of these signs."""
        return self.kind == "sign" and self.text in signs

    def __str__(self) -> str:
        return "the end" if self.kind == "end" else repr(self.text[:60])


def tokens(text: str) -> Iterator[Token]:
    """Yield the words and signs of a text, and then its end.

    Raises:
        InvalidRequest: If it has a quote without an end, or a sign that means nothing.
    """
    position, end = 0, len(text.rstrip())
    while position < end:
        found = _TOKEN.match(text, position)
        if found is None or found.lastgroup is None:
            position += len(text[position:]) - len(text[position:].lstrip())
            what = (
                "this quote has no end"
                if text[position] in "\"'"
                else f"{text[position]!r} means nothing here"
            )
            raise error_at(text, position, what)
        word = found[found.lastgroup]
        if found.lastgroup == "quoted":
            yield Token("quoted", _ESCAPED.sub(r"\1", word[1:-1]), found.start("quoted"))
        elif found.lastgroup == "sign":
            yield Token("sign", word, found.start("sign"))
        else:
            yield Token("word", word, found.start("word"))
        position = found.end()
    yield Token("end", "", len(text))


def error_at(text: str, position: int, message: str) -> InvalidRequest:
    """Return the error that shows where in the text something is wrong."""
    line = "".join(" " if char.isspace() else char for char in text)
    first = max(0, position - 60)
    shown = ("…" if first else "") + line[first : position + 40]
    caret = " " * (position - first + bool(first)) + "^"
    sentence = f"where: {message}, at character {position + 1}\n  {shown}\n  {caret}"
    return InvalidRequest([Violation("where", sentence)])

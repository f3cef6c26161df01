"""Text to a condition, by recursive descent.

condition  = conjunction { "or" conjunction }
conjunction = part { "and" part }
part       = "not" part | "(" condition ")" | comparison
comparison = name sign value | name ["not"] "in" "(" value {"," value} ")" | name ["not"] "contains" value
sign       = "=" | "==" | "!=" | "<" | "<=" | ">" | ">=" | "~" | "!~"
name       = word | "config" "[" quoted "]" | "metric" "[" quoted "]" | ("min" | "max" | "last") "(" name ")"
"""

from __future__ import annotations

import math
from typing import Final, NoReturn

from lab_core.configs.schema.suggest import did_you_mean
from lab_core.errors import Violation
from lab_rpc.run_names import PARTS, SPACES, Kind, Name, named
from lab_server.errors import InvalidRequest
from lab_server.where import operands
from lab_server.where.condition import AllOf, AnyOf, Compare, Condition, Not, Operator
from lab_server.where.tokens import Token, error_at, tokens

MAX_CHARS: Final = 2000
MAX_COMPARISONS: Final = 100
MAX_DEPTH: Final = 30

_SIGNS: Final[dict[str, tuple[Operator, bool]]] = {
    # the operator, and whether the comparison is to be false
    "=": ("=", False),
    "==": ("=", False),
    "!=": ("=", True),
    "<": ("<", False),
    "<=": ("<=", False),
    ">": (">", False),
    ">=": (">=", False),
    "~": ("~", False),
    "!~": ("~", True),
}
_EQUAL_ONLY: Final = frozenset({Kind.STATE})
_TEXTS: Final = frozenset({Kind.TEXT, Kind.TAGS})
_ORDERED: Final = frozenset({Kind.NUMBER, Kind.TIME, Kind.DURATION, Kind.METRIC})
_RESERVED: Final = ("and", "or", "not", "in", "contains")


def parse(text: str) -> Condition:
    """Return the condition that a text says.

    Raises:
        InvalidRequest: If it says none: what is wrong, and where.
    """
    if len(text) > MAX_CHARS:
        sentence = f"where may have at most {MAX_CHARS} characters, got {len(text)}"
        raise InvalidRequest([Violation("where", sentence)])
    return _Parser(text).parse()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(tokens(text))
        self._next = 0
        self._num_comparisons = 0

    def parse(self) -> Condition:
        found = self._condition(0)
        if self._here.kind != "end":
            self._fail(f"expected 'and' or 'or', found {self._here}")
        return found

    # ---- tokens

    @property
    def _here(self) -> Token:
        return self._tokens[self._next]

    def _take(self) -> Token:
        token = self._here
        self._next += token.kind != "end"
        return token

    def _takes_word(self, word: str) -> bool:
        return self._here.is_word(word) and self._take() is not None

    def _expect(self, sign: str, where: str) -> None:
        if not self._here.is_sign(sign):
            self._fail(f"expected {sign!r} {where}, found {self._here}")
        self._take()

    def _fail(self, message: str, token: Token | None = None) -> NoReturn:
        raise error_at(self._text, (token or self._here).position, message)

    # ---- rules

    def _condition(self, depth: int) -> Condition:
        parts = [self._conjunction(depth)]
        while self._takes_word("or"):
            parts.append(self._conjunction(depth))
        return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))

    def _conjunction(self, depth: int) -> Condition:
        parts = [self._part(depth)]
        while self._takes_word("and"):
            parts.append(self._part(depth))
        return parts[0] if len(parts) == 1 else AllOf(tuple(parts))

    def _part(self, depth: int) -> Condition:
        if depth >= MAX_DEPTH:
            self._fail(f"nested more than {MAX_DEPTH} deep")
        if self._takes_word("not"):
            return Not(self._part(depth + 1))
        if self._here.is_sign("("):
            self._take()
            found = self._condition(depth + 1)
            self._expect(")", "at the end of the group")
            return found
        return self._comparison()

    def _comparison(self) -> Condition:
        name = self._name()
        is_false = self._takes_word("not")
        sign = self._take()
        if sign.is_word("in"):
            found: Condition = AnyOf(tuple(self._list(name)))
        elif sign.is_word("contains"):
            found = self._compare(name, "~", sign)
        elif not is_false and sign.kind == "sign" and sign.text in _SIGNS:
            operator, is_false = _SIGNS[sign.text]
            found = self._compare(name, operator, sign)
        else:
            signs = "in or contains" if is_false else "=, !=, <, <=, >, >=, ~, in or contains"
            self._fail(f"expected {signs}, found {sign}", sign)
        return Not(found) if is_false else found

    def _list(self, name: Name) -> list[Condition]:
        start = self._here
        self._expect("(", "before the values of 'in'")
        found = [self._compare(name, "=", start)]
        while self._here.is_sign(","):
            self._take()
            found.append(self._compare(name, "=", start))
        self._expect(")", "or ',' after a value of 'in'")
        return found

    def _name(self) -> Name:
        token = self._take()
        is_name = token.kind == "word" and (token.text[0].isalpha() or token.text[0] == "_")
        if not is_name or token.is_word(*_RESERVED):
            self._fail(f"expected a name, such as learning_rate or state, found {token}", token)
        if self._here.is_sign("("):
            return self._part_of_metric(token)
        space, dot, key = token.text.partition(".")
        if self._here.is_sign("[") and token.text in SPACES:
            self._take()
            quoted = self._take()
            if quoted.kind != "quoted" or not quoted.text:
                self._fail(f"expected a name in quotes, found {quoted}", quoted)
            self._expect("]", "after the name")
            return Name(SPACES[token.text], quoted.text)
        if dot and space in SPACES:
            if not key:
                self._fail(f"expected a name after {token.text!r}", token)
            return Name(SPACES[space], key)
        return named(token.text)

    def _part_of_metric(self, function: Token) -> Name:
        part = PARTS.get(function.text.lower())
        if part is None:
            hint = did_you_mean(function.text, PARTS)
            self._fail(f"there is no function {function}{hint}", function)
        self._take()
        inner = self._here
        name = self._name()
        if name.kind not in (Kind.METRIC, Kind.VALUE) or name.part != "last":
            self._fail(f"expected the name of a metric in {part}(…), found {inner}", inner)
        self._expect(")", f"at the end of {part}(…)")
        return Name(Kind.METRIC, name.key, part)

    def _compare(self, name: Name, operator: Operator, sign: Token) -> Condition:
        token = self._take()
        if token.kind not in ("word", "quoted") or token.is_word(*_RESERVED):
            self._fail(f"expected a value, found {token}", token)
        self._num_comparisons += 1
        if self._num_comparisons > MAX_COMPARISONS:
            self._fail(f"more than {MAX_COMPARISONS} comparisons", token)
        try:
            operand = operands.operand_of(name.kind, token)
        except operands.Misfit as misfit:
            self._fail(str(misfit) + _hint(name), token)
        self._check_sign(name, operator, operand, sign)
        if name.kind is Kind.TIME and operator == "=" and operand is not None:
            day = operands.day_of(token)
            if day is not None:
                return AllOf((Compare(name, ">=", day[0]), Compare(name, "<", day[1])))
        return Compare(name, operator, operand)

    def _check_sign(self, name: Name, operator: Operator, operand: object, sign: Token) -> None:
        what = f"{name.key!r} is {name.kind.value}"
        is_order = operator not in ("=", "~")
        if name.kind in _EQUAL_ONLY and operator != "=":
            self._fail(f"{what}: compare it by =, != or in", sign)
        if name.kind in _TEXTS and is_order:
            self._fail(f"{what}: compare it by =, !=, ~ or in", sign)
        if name.kind in _ORDERED and operator == "~":
            self._fail(f"{what}: compare it by =, !=, <, <=, >, >= or in", sign)
        is_number = isinstance(operand, int | float) and not isinstance(operand, bool)
        is_nan = isinstance(operand, float) and math.isnan(operand)
        if operator != "=" and (operand is None or is_nan):
            self._fail("none and nan are compared by = or !=", sign)
        if is_order and not is_number:
            self._fail(f"{sign} compares numbers; for texts there are =, !=, ~ and in", sign)
        if operator == "~" and not isinstance(operand, str):
            self._fail(f"{sign} looks for a text; put it in quotes", sign)


def _hint(name: Name) -> str:
    if name.kind in (Kind.NUMBER, Kind.TIME, Kind.DURATION):
        return (
            f"; {name.key!r} is {name.kind.value} of the run itself, a config is config.{name.key}"
        )
    return ""

"""Sentences about wrong values: what it was, and what was probably meant."""

from __future__ import annotations

from collections.abc import Iterable

_MAX_LISTED = 12
_MAX_SHOWN = 80
_MUCH_WORSE = 0.1


def shown(value: object) -> str:
    """Return a value as it stands in a sentence: one line, and never a long one."""
    try:
        text = repr(value)
    except Exception:  # an int of thousands of digits has none, and a user's class may have none
        text = f"<{type(value).__name__}>"
    text = text.replace("\n", " ")
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """Return "; did you mean ...?", or "; there is ..." when nothing known is near."""
    import difflib  # only mistakes pay for it

    known = list(known)
    # the search is quadratic, and nobody misspells so long a name
    is_short = len(wrong) <= _MAX_SHOWN
    near = difflib.get_close_matches(wrong, known, n=3, cutoff=0.6) if is_short else []
    if near:
        matcher = difflib.SequenceMatcher(b=wrong)
        ratios = {}
        for name in near:
            matcher.set_seq1(name)
            ratios[name] = matcher.ratio()
        near = [name for name in near if ratios[name] > ratios[near[0]] - _MUCH_WORSE]
        return f"; did you mean {' or '.join(repr(name) for name in near)}?"
    if not known:
        return ""
    listed = ", ".join(repr(name) for name in known[:_MAX_LISTED])
    return f"; there is {listed}{', ...' if len(known) > _MAX_LISTED else ''}"

"""Text for error messages: the wrong value, shortened, and similar known names."""

from __future__ import annotations

from collections.abc import Iterable

_MAX_LISTED = 12
_MAX_SHOWN = 80
_MUCH_WORSE = 0.1
_MAX_NEAR = 3


def shown(value: object) -> str:
    """Return a value as text for a message: one line, shortened."""
    try:
        text = repr(value)
    except Exception:  # repr fails for ints of thousands of digits, and may for a user's class
        text = f"<{type(value).__name__}>"
    text = text.replace("\n", " ")
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """Return "; did you mean ...?", or "; there is ..." if no known name is similar."""
    import difflib  # imported only when there is an error to report

    known = list(known)
    # the search is quadratic: no suggestions for very long names
    is_short = len(wrong) <= _MAX_SHOWN
    near = difflib.get_close_matches(wrong, known, n=_MAX_NEAR, cutoff=0.6) if is_short else []
    meant = [name for name in known if _abbreviates(wrong, name)][:_MAX_NEAR] if is_short else []
    if meant:
        near = meant
    elif near:
        matcher = difflib.SequenceMatcher(b=wrong)
        ratios = {}
        for name in near:
            matcher.set_seq1(name)
            ratios[name] = matcher.ratio()
        near = [name for name in near if ratios[name] > ratios[near[0]] - _MUCH_WORSE]
    if near:
        return f"; did you mean {' or '.join(repr(name) for name in near)}?"
    if not known:
        return ""
    listed = ", ".join(repr(name) for name in known[:_MAX_LISTED])
    return f"; there is {listed}{', ...' if len(known) > _MAX_LISTED else ''}"


def _abbreviates(short: str, name: str) -> bool:
    """Whether a text is the initials of a name's words, as `lr` is, or one or more whole words of it."""
    short, words = short.lower(), name.lower().replace(".", "_").split("_")
    last = name.lower().rpartition(".")[2].split("_")
    is_initials = len(short) > 1 and short in {"".join(w[:1] for w in ws) for ws in (words, last)}
    return is_initials or (len(short) > 1 and f"_{short}_" in f"_{'_'.join(words)}_")

"""What the `names` of a request match: one definition for server and client."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from fnmatch import translate

SYSTEM_PREFIX = "system."
"""What the names of metrics begin with that the service measures itself: what a run uses of its machine."""


def matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Return what tells whether a metric is asked for; without patterns all that a run tracks.

    `*` matches any text and `?` any one character; all else stands for itself. So do brackets:
    names have some, and each name must match itself (`layers[0].w`).
    """
    regexes = [translate(pattern.replace("[", "[[]")) for pattern in patterns]
    if not regexes:
        return lambda name: not name.startswith(SYSTEM_PREFIX)
    matches = re.compile("|".join(regexes)).match
    return lambda name: matches(name) is not None

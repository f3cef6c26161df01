"""File descriptors: what an error says that comes of having none left."""

from __future__ import annotations

import errno
from typing import Final

TOO_MANY_FILES: Final = frozenset({errno.EMFILE, errno.ENFILE})
"""What the system says when it has no descriptor left for this process, or for any."""


def is_shortage(error: BaseException) -> bool:
    """Whether an error says only that no descriptor is left, and nothing of what was to be done."""
    return isinstance(error, OSError) and error.errno in TOO_MANY_FILES


def raise_if_blind(error: OSError) -> None:
    """Raise an error again that must not be read as "there is none": nobody could look."""
    if is_shortage(error):
        raise error

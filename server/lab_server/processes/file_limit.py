"""How many files a process may have open: as many as the system lets it, but for what it starts.

Linux gives a process 1024 descriptors until it asks for more, its soft limit up to its hard one: select(2) takes no
higher numbers. A server with hundreds of clients needs more, and waits by epoll(7), so it asks. What it starts gets the
limit that it was started with itself, as nobody knows what libraries in a trainer do.
"""

from __future__ import annotations

import resource
from typing import Final

# as Node.js has it: where the hard limit is a billion, as in some containers, programs that try each number take forever
_MOST: Final = 1 << 20

_given: list[int] = []


def raise_limit(given: int = 0) -> None:
    """Let this process have as many files open as it may.

    Args:
        given: what its children are to get, where whoever started this process has raised it before; else 0.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    _given[:] = [given or soft]
    most = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if resource.RLIM_INFINITY != soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def limit_of_children() -> int:
    """Return the soft limit for what this process starts; 0 when it is its own."""
    return _given[0] if _given else 0


def set_limit(limit: int) -> None:
    """Give this process, and what it starts, a soft limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != resource.RLIM_INFINITY and hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))

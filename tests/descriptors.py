"""Takes the file descriptors from a test's own process, for as long as something is looked at."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

FEW = 3
"""What every process has open."""


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Let this process open nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FEW, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import resource
from lab_core.utils.memory import keep_freed_memory

def faults_of_reuse():
    start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        bytearray(8 << 20)  # 2,048 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - start

before = faults_of_reuse()
assert keep_freed_memory()
bytearray(8 << 20)
assert faults_of_reuse() < before / 10, (before, faults_of_reuse())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator is Linux's")
def test_freed_memory_is_used_again_without_page_faults() -> None:
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, timeout=60)

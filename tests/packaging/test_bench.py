"""`make bench` as a whole: a part that fails does not end the others, and nothing that a part started is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

MEASURE = """
import sys
from pathlib import Path
import bench

bench.SECTIONS = dict.fromkeys(sys.argv[2:], 1)
bench.adopt_orphans()
sys.exit(bench.measure(sys.argv[2:], Path(sys.argv[1])))
"""
FINE = """
from table import Row

def rows():
    return [Row("a figure", "1 ms", is_met=True)]
"""
# as a trainer: in a session of its own, by a process that is gone
LEAVING = """
import subprocess, sys

def rows():
    start = "import subprocess as s; n = s.DEVNULL; print(s.Popen(['sleep', '1000'], stdin=n, stdout=n, stderr=n, start_new_session=True).pid)"
    left = subprocess.run([sys.executable, "-c", start], stdout=subprocess.PIPE, check=True).stdout
    open({path!r} + ".new", "wb").write(left)
    import os, time
    os.rename({path!r} + ".new", {path!r})
    {then}
"""


class Bench:
    """Runs sections that a test writes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.left = folder / "left"

    def write(self, name: str, text: str) -> None:
        (self._folder / f"{name}.py").write_text(text)

    def start(self, *names: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", MEASURE, str(self._folder / "found.json"), *names],
            env={**os.environ, "PYTHONPATH": f"{BENCHMARKS}:{self._folder}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def rows(self) -> list[tuple[str, str]]:
        found = json.loads((self._folder / "found.json").read_text())
        return [(row["what"], row["ours"]) for row in found["rows"]]

    def has_left_something(self) -> bool:
        try:
            os.kill(int(self.left.read_text()), 0)
        except ProcessLookupError:
            return False
        return True


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    bench.write("fine", FINE)
    yield bench
    if bench.left.exists() and bench.has_left_something():
        os.kill(int(bench.left.read_text()), signal.SIGKILL)


@pytest.mark.slow
def test_a_section_that_fails_is_said_and_the_others_go_on(bench: Bench) -> None:
    bench.write("failing", LEAVING.format(path=str(bench.left), then="raise SystemExit('no')"))
    process = bench.start("failing", "fine")
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert bench.rows() == [("failing", "failed: exit status 1"), ("a figure", "1 ms")]
    assert "failed: exit status 1" in printed
    assert not bench.has_left_something()


@pytest.mark.slow
def test_an_interruption_leaves_no_process_and_tells_what_was_found(bench: Bench) -> None:
    bench.write("endless", LEAVING.format(path=str(bench.left), then="time.sleep(1000)"))
    process = bench.start("fine", "endless", "fine")
    while not bench.left.exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode == 130
    assert bench.rows() == [("a figure", "1 ms"), ("endless", "interrupted")]
    assert not bench.has_left_something()

"""All figures that have a target, in one table: `make bench`, or

    python benchmarks/bench.py [--only NAME ...] [--json FILE]

Each section is a process of its own, takes its contenders in turns and reports medians; what has no peer is a
cost beside its bound. A section that fails is said in the table, and the others go on. Nothing that a section
started outlives it, also after Ctrl-C. The machine must do nothing else. About 12 minutes on two cores.

Exit status: 0 when all bounds hold, 1 when one does not, 2 when a section failed, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import table
from offspring import adopt_orphans, end_offspring

# with how long each takes on two cores, about, in seconds
SECTIONS = {
    "training": 165,
    "events": 52,
    "start": 60,
    "stream": 50,
    "scrape": 25,
    "history": 75,
    "many_runs": 60,
    "subscribers": 170,
    "watchers": 50,
    "growth": 30,
    "grid": 50,
    "core_configs": 10,
}
LONGEST_S = 600.0
_STOP_S = 20.0


def main() -> int:
    """Measure, print the table; see above for the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--json", type=Path, help="file to write the figures to, as JSON, too")
    parser.add_argument("--rows-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rows_of:
        with contextlib.suppress(KeyboardInterrupt):  # whoever sent it says so
            rows = importlib.import_module(arguments.rows_of).rows()
            arguments.json.write_text(json.dumps([dataclasses.asdict(row) for row in rows]))
            return 0
        return 130
    adopt_orphans()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return measure(arguments.only, arguments.json)


def measure(names: list[str], json_file: Path | None) -> int:
    """Run sections one after the other, and print what they found."""
    machine = table.machine()
    _say(", ".join(f"{name} {value}" for name, value in machine.items()) + "\n")
    rows: list[table.Row] = []
    took_s: dict[str, float] = {}
    status = 0
    for number, name in enumerate(names, 1):
        left_s = sum(SECTIONS[n] for n in names[number - 1 :])
        _say(f"[{number}/{len(names)}] {name} (about {left_s / 60:.0f} min to go) ... ")
        began = time.monotonic()
        try:
            rows += section(name)
        except KeyboardInterrupt:
            rows.append(table.Row(name, "interrupted"))
            status = 130
            break
        except SectionError as error:
            rows.append(table.Row(name, f"failed: {error}", is_met=False))
            status = 2
        finally:
            took_s[name] = round(time.monotonic() - began, 1)
            _say(f"{took_s[name]:.0f} s\n")
    print(table.markdown(rows))
    if json_file:
        found = {"machine": machine, "seconds": took_s}
        found |= {"rows": [dataclasses.asdict(row) for row in rows]}
        json_file.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    return status or int(any(row.is_met is False for row in rows))


class SectionError(Exception):
    """A section has no figures; what it wrote to stderr says more."""


def section(name: str) -> list[table.Row]:
    """Return a section's rows; whatever it started has ended.

    Raises:
        SectionError: If it fails, or takes too long.
    """
    with tempfile.TemporaryDirectory(prefix="lab-bench-") as folder:
        found = Path(folder) / "rows.json"
        command = [sys.executable, __file__, "--rows-of", name, "--json", str(found)]
        # a session of its own: Ctrl-C is ours, and passed on
        process = subprocess.Popen(command, start_new_session=True)
        try:
            status = process.wait(LONGEST_S)
        except subprocess.TimeoutExpired:
            raise SectionError(f"it took longer than {LONGEST_S:.0f} s") from None
        finally:
            _stop(process)
        if status:
            raise SectionError(f"exit status {status}")
        return [table.Row(**row) for row in json.loads(found.read_text())]


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Have a section end what it started; then end what is left."""
    try:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        pass
    finally:
        end_offspring()


def _say(text: str) -> None:
    print(text, end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

"""All figures that matter, in one table: `make bench`, or

    python benchmarks/bench.py [--only NAME ...] [--json FILE]

Each section takes its contenders in turns within one run and reports medians; what has no peer is a cost
beside its bound. The machine must do nothing else. Under 15 minutes on two cores.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import core_configs
import grid
import growth
import history
import many_runs
import scrape
import start
import stream
import subscribers
import table
import training
import watchers

SECTIONS: dict[str, Callable[[], list[table.Row]]] = {
    "training": training.rows,
    "start": start.rows,
    "stream": stream.rows,
    "scrape": scrape.rows,
    "history": history.rows,
    "many_runs": many_runs.rows,
    "subscribers": subscribers.rows,
    "watchers": watchers.rows,
    "growth": growth.rows,
    "grid": grid.rows,
    "configs": core_configs.rows,
}


def main() -> int:
    """Measure, print the table; 1 when a bound does not hold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--json", type=Path, help="file to write the figures to, as JSON, too")
    arguments = parser.parse_args()
    machine = table.machine()
    print(", ".join(f"{name} {value}" for name, value in machine.items()), file=sys.stderr)
    rows: list[table.Row] = []
    for number, name in enumerate(arguments.only, 1):
        print(f"[{number}/{len(arguments.only)}] {name} ...", end=" ", file=sys.stderr, flush=True)
        began = time.monotonic()
        try:
            rows += SECTIONS[name]()
        except Exception:  # the figures of the others are of use
            traceback.print_exc()
            rows.append(table.Row(name, "failed", is_met=False))
        print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
    print(table.markdown(rows))
    if arguments.json:
        found = {"machine": machine, "rows": [dataclasses.asdict(row) for row in rows]}
        arguments.json.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    return int(any(row.is_met is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())

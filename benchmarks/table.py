"""The table of `make bench`: what was measured, beside what it was measured against and what is wanted."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
from collections.abc import Callable, Iterable
from pathlib import Path

_HEADERS = ("what", "ours", "peer or bound", "ratio", "wanted", "met")


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One figure.

    Attributes:
        what: what was measured.
        ours: our figure with its unit.
        peer: what it was measured against in the same run, with its figure; "" when `wanted` is a cost.
        ratio: ours to peer, such that larger is better; None without a peer.
        wanted: the bound in words.
        is_met: whether the bound holds; None when there is no bound.
    """

    what: str
    ours: str
    peer: str = ""
    ratio: float | None = None
    wanted: str = ""
    is_met: bool | None = None

    def cells(self) -> tuple[str, ...]:
        """Return the row as text, a cell for each header."""
        met = {True: "yes", False: "no", None: ""}[self.is_met]
        ratio = "" if self.ratio is None else f"{self.ratio:.2f} x"
        return self.what, self.ours, self.peer, ratio, self.wanted, met


def at_least(what: str, ours: str, peer: str, ratio: float, bound: float) -> Row:
    """Return the row of a ratio that has a lower bound."""
    return Row(what, ours, peer, ratio, f"≥ {bound:g} x", ratio >= bound)


def at_most(what: str, value: float, bound: float, unit: str, peer: str = "") -> Row:
    """Return the row of a cost that has an upper bound, both in `unit`."""
    return Row(what, f"{value:.3g} {unit}", peer, None, f"≤ {bound:g} {unit}", value <= bound)


def markdown(rows: Iterable[Row]) -> str:
    """Return the table as Markdown, its columns aligned so that it reads as plain text, too."""
    lines = [_HEADERS, *(row.cells() for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(_HEADERS))]

    def line(cells: Iterable[str], fill: Callable[[str, int], str] = str.ljust) -> str:
        return "| " + " | ".join(fill(c, w) for c, w in zip(cells, widths, strict=True)) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([line(lines[0]), rule, *(line(cells) for cells in lines[1:])])


def machine() -> dict[str, str | int]:
    """Return what the figures were measured on."""
    cpuinfo = Path("/proc/cpuinfo")
    models = [
        value.strip()
        for line in (cpuinfo.read_text() if cpuinfo.exists() else "").splitlines()
        for name, _, value in [line.partition(":")]
        if name.strip() == "model name"
    ]
    return {
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_GB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "torch": importlib.metadata.version("torch"),
    }

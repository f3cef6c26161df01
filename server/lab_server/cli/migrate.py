"""`lab-server migrate`: what a person sees of it."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from lab_server.store.transfer import Moved, move


def migrate(source: str, target: str) -> Moved:
    """Move a store, with a progress bar on stderr.

    Raises:
        StoreError: If it did not arrive.
    """
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console) as bars:
        shown: dict[str, TaskID] = {}

        def progress(what: str, num_done: int, total: int) -> None:
            if not total:
                return
            if what not in shown:
                shown[what] = bars.add_task(what, total=total)
            bars.update(shown[what], completed=num_done)

        moved = move(source, target, progress)
    num_rows = moved.num_rows
    console.print(
        f"moved {num_rows['runs']} runs and {sum(num_rows.values())} rows in all; each arrived as it was"
    )
    return moved

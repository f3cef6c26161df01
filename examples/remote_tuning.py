"""The tutorial's grid over two kernel sizes, trained on a server: one run per slot at a time.

pip install '.[cli]'  # the live table is drawn with rich
lab-server serve --slots cpu:2
python examples/remote_tuning.py [--epochs N]

`run` is the tutorial's function, with the configs object replaced by the experiment's name.
"""

from __future__ import annotations

import argparse
import sys

from rich.console import Console
from rich.live import Live
from rich.table import Table

from lab_client import Run, RunInfo, experiment
from lab_client.events import Metrics, StateChange


def run(hparams: dict[str, object]) -> Run:
    """Start one run and return at once; it waits on the server for a free slot."""
    experiment.create(name="mnist_tuning", writers={"sqlite", "tensorboard"}, tags=["tuning"])
    experiment.calculate_configs("mnist", hparams, ["set_seed", "main"])
    experiment.add_pytorch_models({"model"})
    return experiment.start()


def table_of(runs: list[RunInfo], best: str = "") -> Table:
    """Return a table with one row per run."""
    table = Table("conv1", "conv2", "state", "step", "train loss", "accuracy")
    for info in runs:
        values = (info.overrides["conv1_kernal"], info.overrides["conv2_kernal"], info.state)
        metrics = (
            f"{info.metrics.get(name, float('nan')):.4f}" for name in ("train_loss", "accuracy")
        )
        step = f"{info.step}/{info.total_steps or '?'}"
        style = "bold green" if info.id == best else None
        table.add_row(*map(str, values), step, *metrics, style=style)
    return table


def watch(runs: list[Run]) -> list[RunInfo]:
    """Show the runs in a live table until all have ended; one stream has the updates of all."""
    waiting = {run.id for run in runs}
    client = experiment.client()
    console = Console()
    with Live(console=console, auto_refresh=False, transient=True) as live:
        for update in client.watch_metrics(run_ids=waiting, from_start=True):
            body = update.event.body
            is_end = isinstance(body, StateChange) and body.state.is_terminal
            if is_end:
                waiting.discard(update.run_id)
            is_result = isinstance(body, Metrics) and "accuracy" in body.columns
            if is_end or is_result or isinstance(body, StateChange):
                live.update(table_of([run.refresh() for run in runs]), refresh=console.is_terminal)
            if not waiting:
                break
    return [run.refresh() for run in runs]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--server", help="HOST:PORT; default: LAB_SERVER")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--dataset", default="mnist_5k")
    arguments = parser.parse_args()

    experiment.connect(arguments.server)
    common = {"epochs": arguments.epochs, "dataset": arguments.dataset}
    runs = [
        run({"conv1_kernal": conv1, "conv2_kernal": conv2, **common})
        for conv1 in (3, 5)
        for conv2 in (3, 5)
    ]
    try:
        ended = watch(runs)
    except KeyboardInterrupt:
        sys.exit("\nThe runs go on; see them with: lab runs --tag tuning")
    best = max(ended, key=lambda info: info.metrics.get("accuracy", -1.0))
    Console().print(table_of(ended, best.id))
    kernels = f"conv1_kernal={best.overrides['conv1_kernal']} conv2_kernal={best.overrides['conv2_kernal']}"
    print(f"best: {kernels} with accuracy {best.metrics.get('accuracy', float('nan')):.4f}")
    if any(info.state != "COMPLETED" for info in ended):
        sys.exit("not every run completed; see why with: lab runs --tag tuning")


if __name__ == "__main__":
    main()

"""What tracking costs: `add` + `save` of two scalars with sqlite, tensorboard and console on.

Against tensorboardX, wandb (offline) and aim, where they are installed:

    pip install tensorboardX wandb aim
    python benchmarks/core_tracker.py [--steps N] [--rounds N]

Each library runs in a process of its own, in turn, several rounds; medians are printed. "thread" is
what the training thread waits for a step, in a loop that does nothing else; "own" what of that it
computes itself, which says more on a busy machine; "paced" what it waits in a loop that works 1 ms
between two steps, as training does; "CPU" is all threads' time together, to the last byte written.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

Track = Callable[[int, float, float], None]


def lab(folder: Path) -> tuple[Track, Callable[[], object]]:
    from lab_core import loop, tracker, writers

    made = writers.create(["sqlite", "tensorboard", "console"], folder, loop.total_steps)
    current = tracker.set_current(tracker.Tracker(made))
    current.start()

    def track(step: int, loss: float, accuracy: float) -> None:
        loop.set_global_step(step)
        tracker.add(loss=loss, accuracy=accuracy)
        tracker.save()

    return track, current.close


def tensorboardx(folder: Path) -> tuple[Track, Callable[[], object]]:
    from tensorboardX import SummaryWriter

    writer = SummaryWriter(str(folder))

    def track(step: int, loss: float, accuracy: float) -> None:
        writer.add_scalar("loss", loss, step)
        writer.add_scalar("accuracy", accuracy, step)

    return track, writer.close


def wandb(folder: Path) -> tuple[Track, Callable[[], object]]:
    import wandb

    run = wandb.init(mode="offline", dir=str(folder), settings=wandb.Settings(silent=True))

    def track(step: int, loss: float, accuracy: float) -> None:
        run.log({"loss": loss, "accuracy": accuracy}, step=step)

    return track, run.finish


def aim(folder: Path) -> tuple[Track, Callable[[], object]]:
    from aim import Run

    run = Run(repo=str(folder), system_tracking_interval=None)

    def track(step: int, loss: float, accuracy: float) -> None:
        run.track(loss, name="loss", step=step)
        run.track(accuracy, name="accuracy", step=step)

    return track, run.close


LIBRARIES = {"lab": (lab, None), "tensorboardX": (tensorboardx, "tensorboardX"), "wandb": (wandb, "wandb"), "aim": (aim, "aim")}  # fmt: skip


def work(seconds: float) -> None:
    """Keep a core busy without the interpreter's lock for most of the time, as training does."""
    end = time.perf_counter() + seconds
    data = bytes(200_000)
    import zlib

    while time.perf_counter() < end:
        zlib.crc32(data)


def wait_until_idle() -> None:
    """Wait until no thread of this process computes, at most 20 s."""
    for _ in range(100):
        before = time.process_time()
        time.sleep(0.2)
        if time.process_time() - before < 0.002:
            return


def measure(library: str, num_steps: int) -> dict[str, float]:
    """Return microseconds a step: thread and CPU flat out, and thread when paced."""
    out = {}
    make, _ = LIBRARIES[library]
    for kind in ("flat", "paced"):
        steps = num_steps if kind == "flat" else min(num_steps, 1000)
        with tempfile.TemporaryDirectory() as folder:
            track, close = make(Path(folder))
            for step in range(100):  # imports, files, threads: not what a step costs
                track(step, 1.0 / (step + 1), 0.5)
            wait_until_idle()
            spent = 0.0
            cpu_start, own_start = time.process_time(), time.thread_time()
            begin = time.perf_counter()
            for step in range(100, 100 + steps):
                if kind == "paced":
                    work(0.001)
                    start = time.perf_counter()
                    track(step, 1.0 / step, 0.5)
                    spent += time.perf_counter() - start
                else:
                    track(step, 1.0 / step, 0.5)
            if kind == "flat":
                spent = time.perf_counter() - begin
                out["own_us"] = (time.thread_time() - own_start) / steps * 1e6
            close()
            out[f"{kind}_us"] = spent / steps * 1e6
            if kind == "flat":
                out["cpu_us"] = (time.process_time() - cpu_start) / steps * 1e6
    return out


def main() -> None:
    """Measure each library in a fresh process, in turn, and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=sorted(LIBRARIES), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        with contextlib.redirect_stdout(io.StringIO()):
            figures = measure(args.only, args.steps)
        print(json.dumps(figures))
        return
    found: dict[str, list[dict[str, float]]] = {}
    for name, (_, module) in LIBRARIES.items():
        if module is None or importlib.util.find_spec(module):
            found[name] = []
        else:
            print(f"{name}: not installed, left out (pip install {name})")
    root = Path(__file__).resolve().parent.parent
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    env = os.environ | {"PYTHONPATH": path}
    for _ in range(args.rounds):
        for name, rounds in found.items():
            command = [sys.executable, __file__, "--only", name, "--steps", str(args.steps)]
            run = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
            if run.returncode == 0:
                rounds.append(json.loads(run.stdout.splitlines()[-1]))
            else:
                print(f"{name}: failed: {run.stderr.strip().splitlines()[-1]}")
    medians = {
        name: {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}
        for name, rounds in found.items()
        if rounds
    }
    print(f"{args.rounds} rounds of {args.steps} steps of two scalars, medians, µs a step")
    print(f"{'':14}{'thread':>8}{'own':>8}{'paced':>8}{'CPU':>8}   x lab: thread     own     CPU")
    ours = medians["lab"]
    for name, m in medians.items():
        print(
            f"{name:14}{m['flat_us']:8.1f}{m['own_us']:8.1f}{m['paced_us']:8.1f}{m['cpu_us']:8.1f}"
            f"{m['flat_us'] / ours['flat_us']:16.1f}{m['own_us'] / ours['own_us']:8.1f}"
            f"{m['cpu_us'] / ours['cpu_us']:8.1f}"
        )


if __name__ == "__main__":
    main()

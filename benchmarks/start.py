"""How soon a run begins, and a server is ready.

    python benchmarks/start.py [--rounds N]

`start()` to the first metric in the client, beside the least that it can be: a process that has imported torch
forks, makes the model and trains one step. An edit to the first metric: of a file that the client sends, and of an
experiment that the server has. A server's start to its ready line, and to its catalogue beside the import of torch and
torchvision.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from live_server import LiveServer
from table import Row, at_most, markdown

from lab_client import Client

FORKER = """
import os, sys, time
import torch, torch._dynamo
from torch.nn import functional as F
from lab_core.helpers.pytorch.datasets import mnist
from lab_server.experiments.mnist import Net
digits = mnist.load_mnist_5k
print("ready", flush=True)
for _ in sys.stdin:
    began = time.perf_counter()
    if os.fork() == 0:
        data = digits()
        images, labels = data.train_images_NHW[:64].unsqueeze(1).float().div_(255), data.train_labels_N[:64]
        model = Net(5, 5).to(memory_format=torch.channels_last)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.5, fused=True)
        loss = F.cross_entropy(model(images), labels)
        loss.backward(); optimizer.step(); loss.item()
        print(time.perf_counter() - began, flush=True)
        os._exit(0)
    os.wait()
"""
IMPORT = "import torch, torchvision"
EDITED = """
import torch
from lab_core import loop, tracker
from lab_core.configs import BaseConfigs

class Configs(BaseConfigs):
    def run(self):
        model = torch.nn.Linear(8, 8)
        for step in loop.loop(3):
            tracker.save(step, {{"value": model(torch.zeros(8)).sum() + {value}}})
"""


def to_first_metric(rounds: int) -> list[Row]:
    """Take turns: a run through the service, and a bare fork."""
    served: list[float] = []
    forked: list[float] = []
    with (
        tempfile.TemporaryDirectory(prefix="lab-bench-") as home,
        LiveServer(Path(home), "--slots", "cpu:1") as server,
        Client(server.address) as client,
        subprocess.Popen(
            [sys.executable, "-c", FORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as forker,
    ):
        assert forker.stdin is not None
        assert forker.stdout is not None
        forker.stdout.readline()
        client.wait_ready()
        for index in range(rounds + 1):
            run = client.create("mnist", {"epochs": 1, "is_log_parameters": False})
            began = time.perf_counter()
            run.start()
            next(iter(run.metrics()))
            took = time.perf_counter() - began
            run.stop()
            run.wait()
            forker.stdin.write("\n")
            forker.stdin.flush()
            bare = float(forker.stdout.readline())
            if index:  # what is read from the disk for the first time is not of interest
                served.append(took)
                forked.append(bare)
        forker.stdin.close()
    peer = f"bare fork to its first step, {statistics.median(forked):.3f} s"
    return [at_most("start() to the first metric", statistics.median(served), 0.12, "s", peer)]


def after_an_edit(rounds: int) -> list[Row]:
    """Take turns: edit a file and send it, and edit one that the server has; each time up to a new value."""
    sent: list[float] = []
    edited: list[float] = []
    with tempfile.TemporaryDirectory(prefix="lab-bench-") as folder:
        mine, servers = Path(folder, "mine.py"), Path(folder, "servers.py")
        servers.write_text(EDITED.format(value=0))
        flags = ("--slots", "cpu:1", "--allow-uploads", "--experiments", str(servers))
        with LiveServer(Path(folder, "home"), *flags) as server, Client(server.address) as client:
            client.wait_ready()
            client.experiments()
            for index in range(rounds + 1):
                for source, path, times in ((mine, mine, sent), ("servers", servers, edited)):
                    path.write_text(EDITED.format(value=index))
                    began = time.perf_counter()
                    run = client.create(source).start()
                    next(iter(run.metrics()))
                    took = time.perf_counter() - began
                    run.wait(check=True)
                    if index:
                        times.append(took)
    return [
        at_most("edited file, sent, to the first metric", statistics.median(sent), 0.5, "s"),
        at_most(
            "edited experiment of the server, to the first metric",
            statistics.median(edited),
            0.8,
            "s",
        ),
    ]


def to_ready(rounds: int) -> list[Row]:
    """Take turns: a server's start, and an import of torch."""
    ready: list[float] = []
    catalogue: list[float] = []
    imports: list[float] = []
    for index in range(rounds + 1):
        with tempfile.TemporaryDirectory(prefix="lab-bench-") as home:
            server = LiveServer(Path(home), "--slots", "cpu:1")
            began = time.perf_counter()
            with server, Client(server.address) as client:
                is_ready_s = time.perf_counter() - began
                client.experiments()
                has_catalogue_s = time.perf_counter() - began
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", IMPORT], check=True)
        import_s = time.perf_counter() - began
        if index:
            ready.append(is_ready_s)
            catalogue.append(has_catalogue_s)
            imports.append(import_s)
    ratio = statistics.median(b / a for a, b in zip(catalogue, imports, strict=True))
    return [
        at_most("server's start to ready", statistics.median(ready), 0.5, "s"),
        Row(
            "server's start to the catalogue",
            f"{statistics.median(catalogue):.2f} s",
            f"import torch, torchvision: {statistics.median(imports):.2f} s",
            ratio,
            "as fast as torch imports",
            ratio >= 0.9,
        ),
    ]


def rows(rounds: int = 20) -> list[Row]:
    """Measure all of it."""
    return [
        *to_first_metric(rounds),
        *after_an_edit(max(5, rounds // 3)),
        *to_ready(max(3, rounds // 5)),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    print(markdown(rows(parser.parse_args().rounds)))

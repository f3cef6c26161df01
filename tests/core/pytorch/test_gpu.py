"""Training on a GPU: no step waits for it, and it waits for as little as can be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lab_core import loop, tracker
from lab_core.configs import calculate
from lab_core.experiment import Experiment, run
from lab_core.helpers.pytorch.datasets.mnist import Digits, load_mnist_5k
from lab_core.tracker import values as held
from lab_core.writers.summaries import histogram
from lab_server.experiments.mnist import Configs

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]
LOADED = {"train_loader": "data_loader_train", "valid_loader": "data_loader_valid"}


def small_digits() -> Digits:
    digits = load_mnist_5k()
    return Digits(
        digits.train_images_NHW[:640],
        digits.train_labels_N[:640],
        digits.test_images_NHW[:100],
        digits.test_labels_N[:100],
    )


def train(folder: Path, overrides: dict[str, Any]) -> list[float]:
    """Train one epoch; return the loss of each step."""
    losses: list[Any] = []
    experiment = Experiment("mnist", folder=folder, console=False, is_code_recorded=False)
    overrides = {"dataset": small_digits(), "epochs": 1, "is_log_parameters": False, **overrides}
    conf = experiment.calculate_configs(Configs(), overrides, ["set_seed", "main"])
    conf.model.register_forward_hook(lambda model, args, out: losses.append(out.detach().mean()))
    with experiment.start():
        run(conf)
    return [float(loss) for loss in losses]


@pytest.mark.parametrize(
    "overrides",
    [{}, LOADED, LOADED | {"num_workers": 2}],
    ids=["resident", "loaded", "loaded by workers"],
)
def test_no_step_waits_for_the_gpu(
    overrides: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[str] = []
    add_global_step = loop.add_global_step

    def strict_from_the_second_on() -> None:
        add_global_step()
        step = loop.get_global_step()
        modes.append("error" if 1 <= step < 9 else "default")
        torch.cuda.set_sync_debug_mode(modes[-1])

    monkeypatch.setattr(loop, "add_global_step", strict_from_the_second_on)
    # the mode is of the whole process, and the writers' thread waits by right: it gets the batch at the end
    monkeypatch.setattr(tracker, "save", lambda *args, **named: None)
    try:
        train(tmp_path, overrides)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert modes.count("error") == 8


def test_batches_of_a_data_loader_are_pinned() -> None:
    conf = calculate(Configs, {"dataset": small_digits(), **LOADED, "num_workers": 1})
    for loader in (conf.train_loader, conf.valid_loader):
        images, labels = next(iter(loader))
        assert images.is_pinned()
        assert labels.is_pinned()


@pytest.mark.slow
def test_cuda_graphs_train_alike(tmp_path: Path) -> None:
    eager = train(tmp_path / "eager", {})
    graphs = train(tmp_path / "graphs", {"compile_mode": "reduce-overhead"})
    np.testing.assert_allclose(graphs, eager, rtol=1e-2, atol=1e-3)


def test_the_digest_of_a_large_tensor_is_made_on_the_gpu_without_a_wait() -> None:
    tensor = torch.randn(3_000_000, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        ((num, digest),) = held.spread("w", tensor)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert digest.tensor.is_cuda
    ours = histogram("w", 1, 2.0, [(num, held.fetch([digest])[0])])
    theirs = histogram("w", 1, 2.0, [tensor.double().cpu().numpy()])
    assert ours.counts == theirs.counts
    np.testing.assert_allclose(ours.edges, theirs.edges, rtol=1e-12)

"""Which GPU a trainer sees, by its slot and by what the server itself may see."""

from __future__ import annotations

import os
import sys

import pytest

from lab_server.trainer.setup import set_device

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the variables back after a test, and leave this process's torch alone."""
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", *THREADS):
        monkeypatch.setenv(name, "")
    monkeypatch.setitem(sys.modules, "torch", None)


@pytest.mark.parametrize(
    ("of_server", "device", "of_trainer"),
    [
        (None, "cuda:0", "0"),
        (None, "cuda:3", "3"),
        ("4,6", "cuda:0", "4"),
        ("4,6", "cuda:1", "6"),
        ("4, 6", "cuda:1", "6"),
        ("GPU-8932f937,MIG-1a2b", "cuda:1", "MIG-1a2b"),
        (None, "cpu", ""),
        ("4,6", "cpu", ""),
    ],
)
def test_a_trainer_sees_the_gpu_of_its_slot_as_the_server_counts_them(
    monkeypatch: pytest.MonkeyPatch, of_server: str | None, device: str, of_trainer: str
) -> None:
    if of_server is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", of_server)

    set_device(device, 2)

    assert os.environ["CUDA_VISIBLE_DEVICES"] == of_trainer


def test_gpus_are_counted_as_nvidia_smi_does_unless_the_server_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CUDA_DEVICE_ORDER")
    set_device("cuda:1", 2)
    assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"

    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    set_device("cuda:1", 2)
    assert os.environ["CUDA_DEVICE_ORDER"] == "FASTEST_FIRST"


def test_a_trainer_gets_its_share_of_the_threads() -> None:
    set_device("cpu", 3)

    assert [os.environ[name] for name in THREADS] == ["3", "3", "3"]

"""What is recorded of versions and the machine."""

from __future__ import annotations

import importlib.metadata
import platform
import socket
import subprocess
import sys

import pytest

from lab_core.provenance import _environment, read_environment


def test_versions_and_machine_are_those_of_this_process() -> None:
    import torch

    found = read_environment("cpu")

    assert found.python == platform.python_version()
    assert found.torch == torch.__version__
    assert found.lab_train == importlib.metadata.version("lab-train")
    assert found.cuda == (torch.version.cuda or "")
    assert found.host == socket.gethostname()
    assert found.device == "cpu"
    assert found.device_name


def test_torch_is_not_imported_for_it() -> None:
    script = (
        "import sys; from lab_core.provenance import read_environment\n"
        "found = read_environment(); assert found.torch == found.cuda == ''\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


@pytest.mark.parametrize(("number", "version"), [(8902, "8.9.2"), (91002, "9.10.2")])
def test_cudnns_number_is_read_as_a_version(number: int, version: str) -> None:
    assert _environment._cudnn_version(number) == version


@pytest.mark.parametrize(
    ("visible", "gpu"), [(None, "0"), ("", ""), ("3,1", "3"), ("GPU-1f, 0", "GPU-1f")]
)
def test_the_gpu_is_the_first_that_is_visible(
    visible: str | None, gpu: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert _environment._visible_gpu() == gpu


@pytest.mark.gpu
def test_a_gpu_has_a_name_and_a_driver() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("there is no NVIDIA GPU")
    found = read_environment("cuda:0")
    assert found.device_name == torch.cuda.get_device_name(0)
    assert found.driver
    assert found.cudnn

"""A script computes with no more threads than the CPUs that it may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lab_core import experiment
from lab_core.utils.threads import limit_threads, num_usable_cpus

NUM_CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


@pytest.fixture(autouse=True)
def unlimited(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "SLURM_CPUS_PER_TASK"):
        monkeypatch.delenv(name, raising=False)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({}, NUM_CPUS),
        ({"cpu.max": "max 100000\n"}, NUM_CPUS),
        ({"cpu.max": "100000 100000\n"}, 1),
        ({"cpu.max": "1000 100000\n"}, 1),
        ({"cpu.max": "nonsense\n"}, NUM_CPUS),
        ({"cpu.max": "9900000 100000\n"}, NUM_CPUS),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, NUM_CPUS),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
    ],
)
def test_a_quota_of_the_container_counts(
    files: dict[str, str], wanted: int, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert num_usable_cpus(tmp_path) == wanted


def test_a_task_of_slurm_has_its_share(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    assert num_usable_cpus(tmp_path) == 1
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "many")
    assert num_usable_cpus(tmp_path) == NUM_CPUS


def test_a_run_lowers_the_number_of_threads_and_says_so(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(4)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    experiment.create(name="shared", writers=set())
    with experiment.start():
        assert torch.get_num_threads() == 1
    assert "torch's threads: 1," in capsys.readouterr().out


def test_the_number_is_never_raised_and_the_environment_is_obeyed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.set_num_threads(1)
    assert limit_threads() is None
    torch.set_num_threads(4)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert limit_threads() is None
    assert torch.get_num_threads() == 4

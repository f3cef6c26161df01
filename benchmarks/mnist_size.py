"""Data of MNIST's size where MNIST itself is not there: what a step costs does not depend on what it sees."""

from __future__ import annotations

import contextlib
import os
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

_NUM = {"train": 60_000, "t10k": 10_000}


def has_mnist() -> bool:
    """Whether MNIST, or what stands for it, is in LAB_DATA_PATH."""
    return (Path(os.environ.get("LAB_DATA_PATH", "")) / "MNIST" / "raw").is_dir()


@contextlib.contextmanager
def data_of_mnists_size() -> Iterator[None]:
    """Have 60,000 digits in LAB_DATA_PATH: those of MNIST, or the 5,000 that come with us, over and over."""
    if has_mnist():
        yield
        return
    before = os.environ.get("LAB_DATA_PATH")
    with tempfile.TemporaryDirectory(prefix="lab-bench-data-") as folder:
        _write(Path(folder) / "MNIST" / "raw")
        os.environ["LAB_DATA_PATH"] = folder
        try:
            yield
        finally:
            os.environ.pop("LAB_DATA_PATH")
            if before is not None:
                os.environ["LAB_DATA_PATH"] = before


def _write(raw: Path) -> None:
    from lab_core.helpers.pytorch.datasets import mnist

    raw.mkdir(parents=True)
    digits = mnist.load_mnist_5k()
    images, labels = digits.train_images_NHW.numpy(), digits.train_labels_N.numpy().astype("u1")
    for part, num in _NUM.items():
        again = -(-num // len(labels))
        header = struct.pack(">IIII", 0x803, num, 28, 28)
        pixels = (images.tobytes() * again)[: num * 28 * 28]
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + pixels)
        header = struct.pack(">II", 0x801, num)
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(header + (labels.tobytes() * again)[:num])

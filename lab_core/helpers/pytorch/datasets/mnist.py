"""MNIST, complete or the 5,000 digits in the package, resident on the device or by DataLoader."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Gt
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from lab_core import lab
from lab_core.errors import DataError
from lab_core.helpers.pytorch.device import DeviceConfigs
from lab_core.helpers.pytorch.loaders import DataSetLoader, TensorLoader

__all__ = ["DigitDataset", "Digits", "MNISTConfigs", "load_mnist", "load_mnist_5k"]

TRAIN_LOADER = "train_loader"


@dataclass(frozen=True, eq=False)
class Digits:
    """Images of digits as stored in the files.

    Attributes:
        train_images_NHW, test_images_NHW: uint8 [N, 28, 28].
        train_labels_N, test_labels_N: int64 [N], 0 to 9.
    """

    train_images_NHW: Tensor
    train_labels_N: Tensor
    test_images_NHW: Tensor
    test_labels_N: Tensor


class DigitDataset(Dataset[tuple[Any, int]]):
    """A data set of digits like torchvision's: each sample is a transformed PIL image and a label."""

    def __init__(
        self, images_NHW: Tensor, labels_N: Tensor, transform: Callable[[Any], Any] | None = None
    ) -> None:
        self.images_NHW = images_NHW
        self.labels_N = labels_N
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels_N)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        from PIL import Image

        image: Any = Image.fromarray(self.images_NHW[index].numpy())
        if self.transform is not None:
            image = self.transform(image)
        return image, int(self.labels_N[index])


def load_mnist_5k() -> Digits:
    """Return the 4,000 and 1,000 digits in the package, balanced over the classes."""
    arrays = _mnist_5k()
    return Digits(
        train_images_NHW=torch.tensor(arrays["train_images"]),
        train_labels_N=torch.tensor(arrays["train_labels"], dtype=torch.int64),
        test_images_NHW=torch.tensor(arrays["test_images"]),
        test_labels_N=torch.tensor(arrays["test_labels"], dtype=torch.int64),
    )


@functools.cache
def _mnist_5k() -> dict[str, NDArray[Any]]:
    """Return the arrays of the file, unpacked once: a trainer has them from the process it is forked from."""
    file = resources.files("lab_core.helpers.pytorch.datasets") / "mnist_5k.npz"
    with resources.as_file(file) as path, np.load(path) as arrays:
        return dict(arrays)


def load_mnist(folder: Path) -> Digits:
    """Return the complete MNIST, 60,000 and 10,000 digits, from a folder; downloaded if missing.

    Raises:
        DataError: If it is missing and cannot be downloaded.
    """
    from torchvision.datasets import MNIST

    try:
        train, test = (MNIST(str(folder), train=t, download=True) for t in (True, False))
    except Exception as error:
        # torchvision raises RuntimeError, URLError, OSError, struct.error, ...
        raise DataError(
            f"MNIST is not in {folder} and could not be downloaded ({error}); set LAB_DATA_PATH to "
            f"the folder that has MNIST/raw, or choose the dataset 'mnist_5k', which needs no data"
        ) from error
    return Digits(train.data, train.targets, test.data, test.targets)


class MNISTConfigs(DeviceConfigs):
    """MNIST's training and validation sets, and loaders for them."""

    # the digits: complete MNIST, or the 5,000 in the package
    dataset: Digits
    # mean of the grey levels, in [0, 1]
    image_mean: float = 0.1307
    # standard deviation of the grey levels
    image_std: Annotated[float, Gt(0)] = 0.3081
    # transform of images in a data loader; resident images are always normalised
    dataset_transforms: Callable[[Any], Tensor]
    # the transformed training samples, for a data loader
    train_dataset: DigitDataset
    # the transformed validation samples, for a data loader
    valid_dataset: DigitDataset
    # samples per training batch
    train_batch_size: Annotated[int, Ge(1)] = 64
    # samples per validation batch
    valid_batch_size: Annotated[int, Ge(1)] = 1024
    # shuffle the training samples in each epoch
    train_loader_shuffle: bool = True
    # shuffle the validation samples each time
    valid_loader_shuffle: bool = False
    # worker processes of a data loader; 0 loads in the training process
    num_workers: Annotated[int, Ge(0)] = 0
    # for a GPU: data loaders put batches into pinned memory, which is copied while the process goes on
    pin_memory: bool = True
    # training batches: of images resident on the device, or from a DataLoader
    train_loader: TensorLoader | DataSetLoader
    # validation batches: of images resident on the device, or from a DataLoader
    valid_loader: TensorLoader | DataSetLoader


@MNISTConfigs.calc(MNISTConfigs.dataset)
def mnist() -> Digits:
    return load_mnist(lab.get_data_path())


@MNISTConfigs.calc(MNISTConfigs.dataset)
def mnist_5k() -> Digits:
    return load_mnist_5k()


@MNISTConfigs.calc(MNISTConfigs.dataset_transforms)
def normalized_tensor(c: MNISTConfigs) -> Callable[[Any], Tensor]:
    from torchvision import transforms

    normalize = transforms.Normalize((c.image_mean,), (c.image_std,))
    compose: Callable[[Any], Tensor] = transforms.Compose([transforms.ToTensor(), normalize])
    return compose


@MNISTConfigs.calc(MNISTConfigs.train_dataset)
def train_digits(c: MNISTConfigs) -> DigitDataset:
    digits = c.dataset
    return DigitDataset(digits.train_images_NHW, digits.train_labels_N, c.dataset_transforms)


@MNISTConfigs.calc(MNISTConfigs.valid_dataset)
def valid_digits(c: MNISTConfigs) -> DigitDataset:
    digits = c.dataset
    return DigitDataset(digits.test_images_NHW, digits.test_labels_N, c.dataset_transforms)


@MNISTConfigs.calc(MNISTConfigs.train_loader)
def resident_train(c: MNISTConfigs) -> TensorLoader:
    return TensorLoader(
        _normalized_NCHW(c, c.dataset.train_images_NHW),
        c.dataset.train_labels_N.to(c.device),
        batch_size=c.train_batch_size,
        shuffle=c.train_loader_shuffle,
        name=TRAIN_LOADER,
    )


@MNISTConfigs.calc(MNISTConfigs.train_loader)
def data_loader_train(c: MNISTConfigs) -> DataSetLoader:
    return DataSetLoader(
        c.train_dataset,
        batch_size=c.train_batch_size,
        shuffle=c.train_loader_shuffle,
        name=TRAIN_LOADER,
        **_loading(c),
    )


@MNISTConfigs.calc(MNISTConfigs.valid_loader)
def resident_valid(c: MNISTConfigs) -> TensorLoader:
    return TensorLoader(
        _normalized_NCHW(c, c.dataset.test_images_NHW),
        c.dataset.test_labels_N.to(c.device),
        batch_size=c.valid_batch_size,
        shuffle=c.valid_loader_shuffle,
    )


@MNISTConfigs.calc(MNISTConfigs.valid_loader)
def data_loader_valid(c: MNISTConfigs) -> DataSetLoader:
    return DataSetLoader(
        c.valid_dataset,
        batch_size=c.valid_batch_size,
        shuffle=c.valid_loader_shuffle,
        **_loading(c),
    )


def _loading(c: MNISTConfigs) -> dict[str, Any]:
    # torch warns about pinned memory where there is no GPU
    return {
        "num_workers": c.num_workers,
        "pin_memory": c.pin_memory and c.device.type == "cuda",
    }


def _normalized_NCHW(c: MNISTConfigs, images_NHW: Tensor) -> Tensor:
    """Apply ToTensor and Normalize to all images at once, on the device."""
    images = images_NHW.to(c.device).unsqueeze(1).to(torch.float32)
    return images.div_(255).sub_(c.image_mean).div_(c.image_std)


# how batches are loaded does not define the experiment
MNISTConfigs.set_hyperparams(MNISTConfigs.num_workers, MNISTConfigs.pin_memory, is_hyperparam=False)

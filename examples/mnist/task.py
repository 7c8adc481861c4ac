"""The MNIST task, from a folder with the original IDX files, with networks from the literature."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset, TensorDataset

from paretta import Metric, Task


def lenet_300_100(*, first: int = 300, second: int = 100) -> nn.Module:
    """Return the multi-layer perceptron of LeCun et al. (1998): 266,610 parameters."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU(), nn.Linear(second, 10)
    )


def lenet_5(*, first: int = 20, second: int = 50, hidden: int = 500) -> nn.Module:
    """Return LeNet-5 as defined by Caffe, 20c5-p2-50c5-p2-500-10: 431,080 parameters."""
    net = nn.Sequential(
        nn.Conv2d(1, first, 5),
        nn.MaxPool2d(2),
        nn.Conv2d(first, second, 5),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * second, hidden),
        nn.ReLU(),
        nn.Linear(hidden, 10),
    )
    return net.to(memory_format=torch.channels_last)  # reduces the CPU time of training by a third


def mlp(first: int = 800, second: int = 800, dropout: float = 0.0) -> nn.Module:
    """Return a network with two hidden layers; Hinton et al. (2015) distil 1200 + 1200 with dropout into 800 + 800."""
    hidden = [nn.Linear(784, first), nn.ReLU(), nn.Dropout(dropout), nn.Linear(first, second), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Dropout(dropout), nn.Linear(second, 10))


NETS: dict[str, Callable[..., nn.Module]] = {"lenet-300-100": lenet_300_100, "lenet-5": lenet_5, "mlp": mlp}


class Jittered(Dataset[tuple[Tensor, Tensor]]):
    """Images [n, 1, 28, 28], each shifted by up to `pixels` in both directions, at random whenever it is read."""

    def __init__(self, images: Tensor, labels: Tensor, pixels: int) -> None:
        """Pad the images with a black frame of `pixels`."""
        self.framed, self.labels, self.pixels = functional.pad(images, [pixels] * 4), labels, pixels

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return a randomly shifted image and its label."""
        top, left = torch.randint(2 * self.pixels + 1, (2,)).tolist()
        return self.framed[index, :, top : top + 28, left : left + 28], self.labels[index]


def make(
    net: str = "lenet-300-100",
    widths: dict[str, float] | None = None,
    folder: str = "data",
    num_validation: int = 5000,
    jitter: int = 0,
) -> Task:
    """Return the task; the last `num_validation` of the 60,000 training images are the validation split.

    Args:
        net: one of `NETS`; the stage `student` may choose any of them.
        widths: keyword arguments of the network.
        folder: folder with the four IDX files, relative to this file.
        num_validation: number of images that candidates are compared on.
        jitter: maximum shift of training images in pixels.
    """
    where = Path(__file__).parent / folder
    images, labels = _pixels(where / "train-images-idx3-ubyte"), _labels(where / "train-labels-idx1-ubyte")
    shown, named = images[:-num_validation], labels[:-num_validation]
    validation = TensorDataset(images[-num_validation:], labels[-num_validation:])
    test = TensorDataset(_pixels(where / "t10k-images-idx3-ubyte"), _labels(where / "t10k-labels-idx1-ubyte"))
    return Task(
        model=partial(NETS[net], **(widths or {})),
        train=Jittered(shown, named, jitter) if jitter else TensorDataset(shown, named),
        validation=validation,
        test=test,
        loss=functional.cross_entropy,
        metrics={"accuracy": Metric(lambda outputs, targets: (outputs.argmax(1) == targets).float())},
        example_input=images[:1],
        variants=NETS,
    )


def _pixels(path: Path) -> Tensor:
    return torch.from_numpy(_idx(path).astype(np.float32) / 255).unsqueeze(1)


def _labels(path: Path) -> Tensor:
    return torch.from_numpy(_idx(path).astype(np.int64))


def _idx(path: Path) -> np.ndarray:
    """Read an IDX file: a magic number whose last byte is the number of dimensions, their sizes, then the values."""
    if not path.is_file():
        program = Path(__file__).with_name("fetch.py")
        raise FileNotFoundError(f"{path.name} is missing; `python {program}` fetches MNIST")
    content = path.read_bytes()
    dimensions = np.frombuffer(content, ">i4", content[3], offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(dimensions)

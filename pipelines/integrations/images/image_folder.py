"""A folder of images, a folder for each class, as a task: images are read and changed at random in threads."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from paretta.pipelines.integrations.class_folders import ClassFiles, class_files
from paretta.pipelines.integrations.images.preprocessing import PREPROCESSING_FILE, ImagePreprocessing
from paretta.pipelines.integrations.optional import optional
from paretta.pipelines.task import Metric, Task
from paretta.search_spaces.errors import Problem, WrongInput, first_line

if TYPE_CHECKING:
    from PIL.Image import Image

# view(image, generator) returns a random view of an image in RGB, of the same size
RandomView: TypeAlias = Callable[[Any, torch.Generator], Any]
IMAGES: Final = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
CLASSES_FILE: Final = "classes.json"
_MOST_READ: Final = 5_000  # images of a split that a check reads
_MOST_TOLD: Final = 3


@dataclass(frozen=True, slots=True)
class FlipAndShift:
    """Random views: mirrored half of the time, and shifted by up to a share of the sides, with black beyond the edge.

    Args:
        flip: whether to mirror left and right.
        shift: the largest shift, as a share of the side.
    """

    flip: bool = True
    shift: float = 0.1

    def __call__(self, image: "Image", generator: torch.Generator) -> "Image":
        """Return a random view of `image`."""
        coin, right, down = torch.rand(3, generator=generator).tolist()
        if self.flip and coin < 0.5:
            image = optional("PIL.ImageOps", extra="images").mirror(image)
        x, y = (round((2 * part - 1) * self.shift * side) for part, side in zip((right, down), image.size, strict=True))
        return image.crop((x, y, x + image.width, y + image.height))


class ImageFolder(Dataset[tuple[Tensor, int]]):
    """Images and their classes, read from files whenever they are asked for; batches are read in threads.

    Random views are drawn from torch's generator in the calling thread, so they are the same for any number of threads.
    """

    def __init__(
        self, files: ClassFiles, preprocessing: ImagePreprocessing, view: RandomView | None = None, threads: int = 2
    ) -> None:
        """Take the files, how they are prepared, how they are changed at random, and how many are read at a time."""
        if threads < 1:
            raise WrongInput(Problem("threads", "must be at least 1", threads))
        self.files, self.preprocessing, self.view, self.threads = files, preprocessing, view, threads

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.files.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return an image [3, height, width] and its class."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, int]]:
        """Return several, in order."""
        seeds = torch.randint(2**62, (len(indices),)).tolist() if self.view is not None else [0] * len(indices)
        with ThreadPoolExecutor(min(self.threads, len(indices))) as pool:
            return list(pool.map(self._read, indices, seeds))

    def _read(self, index: int, seed: int) -> tuple[Tensor, int]:
        image = self.preprocessing.resized(opened(self.files.paths[index]))
        if self.view is not None:
            image = self.view(image, torch.Generator().manual_seed(seed))
        return self.preprocessing.normalised(image), self.files.labels[index]

    def problems(self, where: str) -> Iterator[Problem]:
        """Read all images, evenly spaced ones of more than 5,000, and yield those that cannot be read."""
        step = max(1, len(self) // _MOST_READ)
        with ThreadPoolExecutor(self.threads) as pool:
            found = [told for told in pool.map(_unreadable, self.files.paths[::step]) if told is not None]
        yield from (Problem(where, told.rule, told.value, told.hint) for told in found[:_MOST_TOLD])


def opened(path: Path) -> "Image":
    """Read an image from a file. Raises `WrongInput` naming the file if it is none."""
    pillow = optional("PIL.Image", extra="images")
    try:
        with pillow.open(path) as image:
            image.load()
            return cast("Image", image)
    except (OSError, SyntaxError, ValueError, pillow.DecompressionBombError) as error:
        problem = Problem("image", "must be readable", str(path), f"{type(error).__name__}: {first_line(error)}")
        raise WrongInput(problem) from None


def _unreadable(path: Path) -> Problem | None:
    try:
        opened(path)
    except WrongInput as error:
        return error.problems[0]
    return None


def image_folder_task(
    folder: Path | str,
    model: nn.Module | Callable[[int], nn.Module],
    *,
    preprocessing: ImagePreprocessing | None = None,
    view: RandomView | None = None,
    threads: int = 2,
    shares: tuple[float, float, float] = (0.6, 0.2, 0.2),
    group: Callable[[Path], str] = lambda path: path.stem,
    loss: Callable[[Tensor, Tensor], Tensor] = functional.cross_entropy,
    metrics: Mapping[str, Metric] | None = None,
) -> Task:
    """Return the task of an image classifier whose images lie in a folder for each class.

    The preprocessing is delivered beside each model as ``preprocessor_config.json``, the names of the classes as
    ``classes.json``.

    Args:
        folder: see `class_files`.
        model: a model, or a function that makes one for a number of classes.
        preprocessing: of images into inputs; by default 224 x 224 pixels, normalised as usual for ImageNet.
        view: changes training images at random, such as `FlipAndShift`; validation and test images stay as they are.
        threads: number of images that are read at a time.
        shares: of the three splits, where the folder does not have them.
        group: files of one group are in one split.
        loss: ``loss(outputs, labels)``.
        metrics: by default accuracy.

    Raises:
        WrongInput: the folder has no images or only one class, or a split lacks a class.
    """
    prepared = preprocessing or ImagePreprocessing()
    classes, files = class_files(Path(folder), IMAGES, shares=shares, group=group)
    splits = {name: ImageFolder(part, prepared, threads=threads) for name, part in files.items()}
    train = ImageFolder(files["train"], prepared, view, threads)
    return Task(
        model=model if isinstance(model, nn.Module) else partial(model, len(classes)),
        train=train,
        validation=splits["validation"],
        test=splits["test"],
        loss=loss,
        metrics={"accuracy": Metric(_right)} if metrics is None else metrics,
        example_input=torch.zeros(1, 3, *prepared.size),
        files={PREPROCESSING_FILE: prepared.to_json(), CLASSES_FILE: f"{json.dumps(classes)}\n".encode()},
    )


def _right(outputs: Tensor, labels: Tensor) -> Tensor:
    return (outputs.argmax(1) == labels).float()

"""How an image becomes a model's input, as a value that is written beside the model in a format that others read."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor

from paretta.search_spaces.errors import Problem, WrongInput

if TYPE_CHECKING:
    from PIL.Image import Image

Resample: TypeAlias = Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]
_RESAMPLE: Final[Sequence[str]] = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # as Pillow counts
PREPROCESSING_FILE: Final = "preprocessor_config.json"


@dataclass(frozen=True, slots=True)
class ImagePreprocessing:
    """Resize, crop the centre, and normalise: ``(pixel / 255 - mean) / std``, as [3, height, width] of float32.

    Transparency is dropped, as Pillow's ``convert("RGB")`` does.

    Args:
        size: height and width of the input.
        shortest_edge: the shorter side is resized to this, then `size` is cropped from the centre. None: the image is
            resized to `size`, whatever its shape.
        mean: of red, green and blue, from 0 to 1.
        std: of red, green and blue.
        resample: the filter of the resizing.
    """

    size: tuple[int, int] = (224, 224)
    shortest_edge: int | None = None
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    resample: Resample = "bilinear"

    def __post_init__(self) -> None:
        """Raise `WrongInput` for values that no image could be prepared with."""
        if min(self.size) < 1:
            raise WrongInput(Problem("size", "height and width must be at least 1", list(self.size)))
        if self.shortest_edge is not None and self.shortest_edge < max(self.size):
            hint = f"give shortest_edge={max(self.size)} or more"
            raise WrongInput(Problem("shortest_edge", "must cover the crop", self.shortest_edge, hint))
        if min(self.std) <= 0:
            raise WrongInput(Problem("std", "must be positive, such as 0.229", list(self.std)))
        if self.resample not in _RESAMPLE:
            raise WrongInput(Problem("resample", f"must be one of {', '.join(_RESAMPLE)}", self.resample))

    def __call__(self, image: "Image") -> Tensor:
        """Return the input [3, height, width] for an image."""
        return self.normalised(self.resized(image))

    def resized(self, image: "Image") -> "Image":
        """Return the image in RGB, resized and cropped."""
        image = (image.convert("RGBA") if image.mode == "P" else image).convert("RGB")  # Pillow warns of palettes
        height, width = self.size
        if self.shortest_edge is None:
            return image.resize((width, height), _RESAMPLE.index(self.resample))
        short, long = sorted(image.size)
        length = int(self.shortest_edge * long / short)
        wanted = (self.shortest_edge, length) if image.width <= image.height else (length, self.shortest_edge)
        image = image.resize(wanted, _RESAMPLE.index(self.resample))
        left, top = (image.width - width) // 2, (image.height - height) // 2
        return image.crop((left, top, left + width, top + height))

    def normalised(self, image: "Image") -> Tensor:
        """Return an image in RGB as [3, height, width], normalised."""
        pixels = np.asarray(image, dtype=np.float32) / np.float32(255)
        found = (pixels - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
        return torch.from_numpy(np.ascontiguousarray(found.transpose(2, 0, 1)))

    def to_json(self) -> bytes:
        """Return the content of ``preprocessor_config.json``, which transformers' ``AutoImageProcessor`` reads."""
        height, width = self.size
        whole = {"height": height, "width": width}
        document = {
            "image_processor_type": "CLIPImageProcessor",
            "do_convert_rgb": True,
            "do_resize": True,
            "size": whole if self.shortest_edge is None else {"shortest_edge": self.shortest_edge},
            "resample": _RESAMPLE.index(self.resample),
            "do_center_crop": self.shortest_edge is not None,
            "crop_size": whole,
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }
        return (json.dumps(document, indent=2) + "\n").encode()

    @classmethod
    def from_json(cls, content: bytes) -> "ImagePreprocessing":
        """Read what `to_json` wrote."""
        document = json.loads(content)
        crop = document["crop_size"]
        return cls(
            (crop["height"], crop["width"]),
            document["size"].get("shortest_edge"),
            _three(document["image_mean"]),
            _three(document["image_std"]),
            cast(Resample, _RESAMPLE[document["resample"]]),
        )

    @classmethod
    def from_timm(cls, config: Mapping[str, Any]) -> "ImagePreprocessing":
        """Return that of a timm model, from its ``pretrained_cfg``."""
        _, height, width = config["input_size"]
        edge = int(min(height, width) / config.get("crop_pct", 0.875))
        resample = cast(Resample, config.get("interpolation", "bilinear"))
        return cls((height, width), max(edge, height, width), _three(config["mean"]), _three(config["std"]), resample)

    @classmethod
    def from_torchvision(cls, transforms: Any) -> "ImagePreprocessing":
        """Return the preprocessing of a torchvision classifier, from its weights' ``transforms()``."""
        (crop,), (edge,) = set(transforms.crop_size), set(transforms.resize_size)
        resample = cast(Resample, transforms.interpolation.value)
        return cls((crop, crop), edge, _three(transforms.mean), _three(transforms.std), resample)


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = values
    return float(red), float(green), float(blue)

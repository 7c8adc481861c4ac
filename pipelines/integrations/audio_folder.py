"""A folder of sounds, a folder for each class, as a task: raw audio with its length."""

import json
import struct
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import torch
from scipy.io import wavfile
from torch import Tensor, nn
from torch.utils.data import Dataset

from paretta.pipelines.integrations.class_folders import ClassFiles, class_files
from paretta.pipelines.integrations.sequences import sequence_task
from paretta.pipelines.task import Metric, Task
from paretta.search_spaces.errors import Problem, WrongInput, first_line

_SOUNDS: Final = frozenset({".wav"})
_MOST_READ: Final = 5_000  # sounds of a split that a check reads
_FULL: Final[Mapping[str, tuple[float, float]]] = {  # by dtype, what is taken for silence and for full scale
    "uint8": (128.0, 128.0),
    "int16": (0.0, 2.0**15),
    "int32": (0.0, 2.0**31),
    "float32": (0.0, 1.0),
    "float64": (0.0, 1.0),
}


class AudioFolder(Dataset[tuple[Tensor, int]]):
    """Sounds [steps] of float32 from -1 to 1, of one channel, and their classes, read whenever they are asked for."""

    def __init__(self, files: ClassFiles, sample_rate: int, most_seconds: float) -> None:
        """Take WAV files, all of one sample rate; longer sounds are cut."""
        self.files, self.sample_rate, self.most_seconds = files, sample_rate, most_seconds

    def __len__(self) -> int:
        """Return the number of sounds."""
        return len(self.files.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return a sound [steps] and its class."""
        sound = read_sound(self.files.paths[index], self.sample_rate)
        return sound[: round(self.most_seconds * self.sample_rate)], self.files.labels[index]

    def problems(self, where: str) -> Iterator[Problem]:
        """Read all sounds, evenly spaced ones of more than 5,000, and yield the first that cannot be used."""
        for path in self.files.paths[:: max(1, len(self) // _MOST_READ)]:
            try:
                read_sound(path, self.sample_rate)
            except WrongInput as error:
                yield Problem(where, *(getattr(error.problems[0], name) for name in ("rule", "value", "hint")))
                return


def read_sound(path: Path, sample_rate: int) -> Tensor:
    """Return a WAV file's sound, [steps] of float32 from -1 to 1, the mean over channels.

    Raises:
        WrongInput: it cannot be read, has another sample rate, or is empty; the message has its path.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)  # of chunks that hold no sound
            rate, values = wavfile.read(path)
    except (OSError, ValueError, struct.error) as error:
        problem = Problem("sound", "must be a readable WAV file", str(path), first_line(error))
        raise WrongInput(problem) from None
    if rate != sample_rate:
        hint = "convert it, or give that `sample_rate`"
        raise WrongInput(Problem("sound", f"must have {sample_rate} samples a second", f"{rate} in {path}", hint))
    if len(values) == 0:
        raise WrongInput(Problem("sound", "must have at least one sample", str(path), "leave it out"))
    silence, full = _FULL[str(values.dtype)]
    mono = values.astype(np.float32) if values.ndim == 1 else values.mean(axis=1, dtype=np.float32)
    return torch.from_numpy((mono - np.float32(silence)) / np.float32(full))


def audio_folder_task(
    folder: Path | str,
    model: Callable[[int], nn.Module],
    *,
    sample_rate: int = 16_000,
    most_seconds: float = 10.0,
    shares: tuple[float, float, float] = (0.6, 0.2, 0.2),
    group: Callable[[Path], str] = lambda path: path.stem,
    metrics: Mapping[str, Metric] | None = None,
) -> Task:
    """Return the task of a sound classifier whose WAV files lie in a folder for each class.

    Beside each model lie ``preprocessor_config.json``, which transformers' ``Wav2Vec2FeatureExtractor`` reads, and
    ``classes.json``.

    Args:
        folder: see `class_files`.
        model: makes a model for a number of classes; ``forward(sound, lengths)`` takes [n, samples] and [n].
        sample_rate: of all files, in Hz.
        most_seconds: longer sounds are cut.
        shares: of the three splits, where the folder does not have them.
        group: files of one group are in one split, such as all of one speaker.
        metrics: by default accuracy.

    Raises:
        WrongInput: the folder has no sounds or only one class, or a split lacks a class.
    """
    classes, files = class_files(Path(folder), _SOUNDS, shares=shares, group=group)
    config = {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "sampling_rate": sample_rate,
        "padding_value": 0.0,
        "padding_side": "right",
        "do_normalize": False,
        "return_attention_mask": False,
    }
    return sequence_task(
        {name: AudioFolder(part, sample_rate, most_seconds) for name, part in files.items()},
        partial(model, len(classes)),
        metrics=metrics,
        files={
            "preprocessor_config.json": f"{json.dumps(config, indent=2)}\n".encode(),
            "classes.json": f"{json.dumps(classes)}\n".encode(),
        },
    )

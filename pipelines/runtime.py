"""A runtime: opens a delivered file, answers with it, and says which kernels ran."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from paretta.pipelines.data.feeds import Feeds
from paretta.search_spaces.objectives.reading import Detail
from paretta.search_spaces.registry import RUNTIMES

RuntimeCall: TypeAlias = Callable[[], object]
Device: TypeAlias = Literal["cpu", "cuda"]
WeightStorage: TypeAlias = Literal["smallest", "portable"]


class NoSuchDevice(Exception):
    """The runtime cannot compute on the requested device; the message says why."""


class ModelRefused(Exception):
    """The runtime cannot load or run this file; the message says why, in one line."""


class Opened(ABC):
    """A delivered file that a runtime has opened."""

    @abstractmethod
    def answers(self, feeds: Feeds) -> list[NDArray[np.generic]]:
        """Return the outputs for `feeds`, arrays [n, ...] by input name, in the order of the file's outputs.

        Raises:
            ModelRefused: it does not run.
        """

    @abstractmethod
    def call(self, batch: Feeds) -> RuntimeCall:
        """Return a function that answers `batch` each time it is called, as a server would; this is what is timed.

        Raises:
            ModelRefused: it does not run.
        """


class Runtime(ABC):
    """What runs a delivered file. A subclass needs no arguments; it imports its library where it is used.

    Class attributes:
        title: how people call it, such as ``OpenVINO``.
        distribution: the installed distribution that it needs, such as ``openvino``.
        install: the command that installs it.
        devices: where it computes; a meter's device must be one of them. The first is the default.
        in_thread: whether with one thread it computes in the thread that calls it, so that this thread's CPU time is
            all that a call costs. Otherwise the CPU time of the process is taken.
        storage: how files of sweeps that measure on this runtime store their weights: ``smallest`` in the fewest bytes
            that ONNX Runtime unpacks, ``portable`` without 2-bit types and without divisions of integers, which other
            runtimes refuse or compute wrongly.
    """

    title: ClassVar[str]
    distribution: ClassVar[str]
    install: ClassVar[str]
    devices: ClassVar[tuple[Device, ...]] = ("cpu",)
    in_thread: ClassVar[bool] = False
    storage: ClassVar[WeightStorage] = "portable"

    @abstractmethod
    def open(self, model_path: Path, *, threads: int, device: Device) -> Opened:
        """Open a file for `threads` threads.

        Raises:
            ModelRefused: it cannot be loaded.
            NoSuchDevice: the runtime has no such device, or would silently compute elsewhere.
        """

    @abstractmethod
    def kernels(self, model_path: Path, inputs: Feeds) -> Mapping[str, Detail]:
        """Return which kernels run on the CPU for the first sample of `inputs`, as details of a reading."""

    def missing(self) -> str | None:
        """Return why it cannot run here and how to mend that, in one line; None if it can."""
        try:
            version(self.distribution)
        except PackageNotFoundError:
            return f"{self.title} is not installed here: {self.install}"
        return None

    def lacks(self, device: Device) -> str | None:
        """Return why it cannot compute on one of its devices here and how to mend that; None if it can, or may."""
        return None

    def version(self) -> str:
        """Return its name and version."""
        return f"{self.distribution} {version(self.distribution)}"

    def load(self) -> None:
        """Import the runtime's library, so that it is not counted as part of opening a file.

        There is nothing to do for a runtime whose own module imports it.
        """
        return

    def digest(self, model_path: Path) -> str:
        """Return a digest: files with equal digests take the same time. By default only equal files do."""
        return sha256(model_path.read_bytes()).hexdigest()


def runtime_of(name: str, *, where: str = "runtime") -> Runtime:
    """Return the runtime called `name`, or ``./file.py:Thing``. Raises `WrongInput` if there is none."""
    return RUNTIMES.load_class(name, Runtime, where=where)()  # type: ignore[type-abstract]  # it loads a complete one


def short_name(name: str) -> str:
    """Return how readings call a runtime: by its name, or by that of its class.

    >>> short_name("openvino"), short_name("./mine.py:Mine")
    ('openvino', 'Mine')
    """
    return name.rpartition(":")[2]


def storage_for(names: tuple[str, ...]) -> WeightStorage:
    """Return how a file that all these runtimes read stores its weights.

    >>> storage_for(()), storage_for(("onnxruntime", "openvino"))
    ('smallest', 'portable')
    """
    return "portable" if any(runtime_of(name).storage == "portable" for name in names) else "smallest"

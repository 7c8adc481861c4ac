"""Compare the answers of a runtime with the reference's on real inputs; where they differ, nothing is timed on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from paretta.pipelines.data.feeds import Feeds, feed_batch
from paretta.pipelines.runtime import Device, Runtime, runtime_of
from paretta.search_spaces.objectives.objective import REFERENCE_RUNTIME

# as for an export, relative to the largest answer: floats are added in another order; a value near the middle of a step
# of an 8-bit grid may be rounded the other way, and a few such steps add up
FLOAT_GAP: Final = 1e-3
INTEGER_GAP: Final = 16 / 255
MOST_SAMPLES: Final = 16


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far a runtime's answers are from the reference's.

    Args:
        gap: ``max |found - expected| / max |expected|``, the largest over the outputs; infinite where shapes or the
            places of infinities and NaN differ.
        most: the largest gap that is rounding.
    """

    gap: float
    most: float

    @property
    def holds(self) -> bool:
        """Whether the answers are the same up to rounding."""
        return self.gap <= self.most


def agreement(
    model_path: Path,
    runtime: Runtime,
    inputs: Feeds,
    *,
    threads: int = 1,
    device: Device = "cpu",
    expected: Sequence[NDArray[np.generic]] | None = None,
) -> Agreement:
    """Compare the answers of `runtime` and of ONNX Runtime on the CPU for the first samples of `inputs`.

    Args:
        model_path: the file.
        runtime: what is compared with ONNX Runtime.
        inputs: real samples, [n, ...] by input name.
        threads: of `runtime`.
        device: of `runtime`.
        expected: the `reference_answers` of another machine; by default they are computed on this one.

    Raises:
        ModelRefused, NoSuchDevice: one of them does not run the file.
    """
    expected = reference_answers(model_path, inputs) if expected is None else expected
    found = runtime.open(model_path, threads=threads, device=device).answers(_first(inputs))
    if len(found) != len(expected):
        return Agreement(np.inf, 0.0)
    most = INTEGER_GAP if _rounds(model_path) else FLOAT_GAP
    return Agreement(max(map(relative_gap, found, expected)), most)


def reference_answers(model_path: Path, inputs: Feeds) -> list[NDArray[np.generic]]:
    """Return the answers of ONNX Runtime on this machine's CPU for the first samples of `inputs`.

    Raises:
        ModelRefused: it does not run the file.
    """
    return runtime_of(REFERENCE_RUNTIME).open(model_path, threads=1, device="cpu").answers(_first(inputs))


def _first(inputs: Feeds) -> Feeds:
    return feed_batch(inputs, min(MOST_SAMPLES, *(len(array) for array in inputs.values())))


def relative_gap(found: NDArray[np.generic], expected: NDArray[np.generic]) -> float:
    """Return ``max |found - expected| / max |expected|``.

    >>> relative_gap(np.array([1.0, 4.5]), np.array([1.0, 5.0]))
    0.1
    >>> relative_gap(np.array([np.nan, 2]), np.array([np.nan, 2])), relative_gap(np.array([1]), np.array([np.inf]))
    (0.0, inf)
    """
    if found.shape != expected.shape:
        return np.inf
    a, b = found.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(a) & np.isfinite(b)
    if not (finite | (a == b) | (np.isnan(a) & np.isnan(b))).all():
        return np.inf
    gap = float(np.abs(a - b)[finite].max(initial=0.0))
    return gap if gap == 0.0 else float(np.divide(gap, np.abs(b[finite]).max()))


def _rounds(model_path: Path) -> bool:
    """Return whether the file rounds values to integers while it runs."""
    import onnx  # noqa: PLC0415 - not in processes that only serve

    from paretta.pipelines.kernels.mac_count import rounds_blocks  # noqa: PLC0415 - as above

    graph = onnx.load(model_path, load_external_data=False).graph
    return any(
        node.op_type in ("QuantizeLinear", "DynamicQuantizeLinear") or rounds_blocks(node) for node in graph.node
    )

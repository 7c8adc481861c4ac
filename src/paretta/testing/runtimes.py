"""Contract tests that every runtime must pass, on files with a tiny network for the digits."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from paretta.pipelines.bench import Bench, seeded
from paretta.pipelines.data.feeds import Feeds
from paretta.pipelines.export.agreement import checked_export
from paretta.pipelines.measuring.runtime_agreement import agreement
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.runtime import ModelRefused, Runtime, WeightStorage
from paretta.pipelines.stages.quantize import Quantize
from paretta.pipelines.tasks.digits import make as digits
from paretta.search_spaces.user_code import reference_to

# bits of the weights of a whole model; None: floats
_WEIGHT_BITS = (None, 8, 4, 2)


class RuntimeContract:
    """Override the fixture `runtime`; the tests are skipped where its library is not installed."""

    @pytest.fixture
    def runtime(self) -> Runtime:
        """Return the runtime under test."""
        raise NotImplementedError("override the fixture `runtime`")

    @pytest.fixture(autouse=True)
    def _require_library(self, runtime: Runtime) -> None:
        if missing := runtime.missing():
            pytest.skip(missing)

    @pytest.mark.parametrize("bits", _WEIGHT_BITS)
    def test_it_answers_as_the_reference_does(self, runtime: Runtime, bits: int | None, tmp_path: Path) -> None:
        found = agreement(
            written(tmp_path, bits, runtime.storage), runtime, digits_feeds(16), device=runtime.devices[0]
        )
        assert found.gap <= found.most

    def test_a_batch_of_any_size_is_answered(self, runtime: Runtime, tmp_path: Path) -> None:
        opened = runtime.open(written(tmp_path, 8, runtime.storage), threads=1, device=runtime.devices[0])
        (many,) = opened.answers(digits_feeds(5))
        ones = [
            opened.answers({name: array[row : row + 1] for name, array in digits_feeds(5).items()}) for row in range(5)
        ]
        assert many.shape == (5, 10)
        assert np.abs(np.concatenate([one for (one,) in ones]) - many).max() <= 1e-4 * np.abs(many).max()

    def test_a_call_answers_again_and_again(self, runtime: Runtime, tmp_path: Path) -> None:
        path = written(tmp_path, None, runtime.storage)
        call = runtime.open(path, threads=1, device=runtime.devices[0]).call(digits_feeds(2))
        call()
        call()

    def test_what_is_no_model_is_refused_in_one_line(self, runtime: Runtime, tmp_path: Path) -> None:
        (tmp_path / "model.onnx").write_bytes(b"no model")
        with pytest.raises(ModelRefused) as caught:
            runtime.open(tmp_path / "model.onnx", threads=1, device=runtime.devices[0]).answers(digits_feeds(1))
        assert str(caught.value)
        assert "\n" not in str(caught.value)

    def test_it_says_which_kernels_ran(self, runtime: Runtime, tmp_path: Path) -> None:
        details = runtime.kernels(written(tmp_path, 8, runtime.storage), digits_feeds(1))
        assert details
        assert json.loads(json.dumps(details, allow_nan=False)) == details

    def test_equal_files_have_equal_digests(self, runtime: Runtime, tmp_path: Path) -> None:
        (tmp_path / "wide").mkdir()
        path, other = written(tmp_path, None, runtime.storage), written(tmp_path / "wide", None, runtime.storage, 8)
        assert runtime.digest(path) == runtime.digest(path)
        assert runtime.digest(path) != runtime.digest(other)

    def test_another_process_finds_it(self, runtime: Runtime) -> None:
        assert ":" in reference_to(type(runtime))
        assert type(runtime)().version() == runtime.version() != ""


def digits_feeds(count: int) -> Feeds:
    """Return the first digits of the validation split as feeds."""
    task = digits(width=4, hidden=8)
    return {"input": np.stack([np.asarray(task.validation[place][0]) for place in range(count)])}


def written(folder: Path, bits: int | None, storage: WeightStorage, width: int = 4) -> Path:
    """Write the tiny network into `folder`, with weights of so many bits, and return the file's path."""
    path = folder / "model.onnx"
    path.write_bytes(_model_bytes(bits, storage, width))
    return path


@cache
def _model_bytes(bits: int | None, storage: WeightStorage, width: int) -> bytes:
    task = digits(width=width, hidden=8)
    with seeded(0):
        model = task.new_model().eval()
        if bits is not None:
            model = Quantize(bits=bits).apply(model, Bench(task, Ranks.alone(), seed=0)).eval()
    return checked_export(model, task, storage=storage).content

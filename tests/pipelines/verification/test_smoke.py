from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from paretta.pipelines.data.feeds import save_feeds
from paretta.pipelines.verification.smoke import require_answer
from paretta.search_spaces.errors import DamagedArtifact


def _write(path: Path, operator: str, inputs: list[str]) -> None:
    rows = helper.make_tensor_type_proto(TensorProto.FLOAT, ["batch", 3])
    graph = helper.make_graph(
        [helper.make_node(operator, inputs, ["y"])],
        "g",
        [helper.make_value_info("x", rows)],
        [helper.make_value_info("y", rows)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    path.write_bytes(model.SerializeToString())


def test_model_that_answers_is_accepted(tmp_path: Path) -> None:
    _write(tmp_path / "model.onnx", "Exp", ["x"])
    require_answer(tmp_path)


def test_model_that_cannot_run_is_refused(tmp_path: Path) -> None:
    _write(tmp_path / "model.onnx", "NoSuchOperator", ["x"])
    with pytest.raises(DamagedArtifact, match="a model that runs"):
        require_answer(tmp_path)


@pytest.mark.parametrize(
    ("operator", "sample", "refused"),
    [
        ("Reciprocal", [2.0, -4.0, 1.0], False),
        ("Reciprocal", [2.0, 0.0, 1.0], True),  # inf
        ("Reciprocal", None, False),  # of an earlier version: noise, as zeros are no input of such a model
        ("Log", [1.0, 0.0, 2.0], False),  # -inf rules a class out
        ("Log", [1.0, -1.0, 2.0], True),  # nan
        ("Log", [0.0, 0.0, 0.0], True),  # every class is ruled out
        ("Log", None, True),
    ],
)
def test_the_answer_to_the_stored_sample_decides(
    operator: str, sample: list[float] | None, refused: bool, tmp_path: Path
) -> None:
    _write(tmp_path / "model.onnx", operator, ["x"])
    if sample is not None:
        save_feeds(tmp_path / "sample.npz", {"x": np.array([sample])})
    with pytest.raises(DamagedArtifact, match="finite answer") if refused else nullcontext():
        require_answer(tmp_path)


def test_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(DamagedArtifact, match="expected a model that runs"):
        require_answer(tmp_path)

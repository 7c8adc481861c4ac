from pathlib import Path

import pytest
from onnx import TensorProto, helper

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


@pytest.mark.parametrize("operator", ["Reciprocal", "NoSuchOperator"])
def test_model_that_gives_no_finite_answer_is_refused(tmp_path: Path, operator: str) -> None:
    _write(tmp_path / "model.onnx", operator, ["x"])
    with pytest.raises(DamagedArtifact, match="finite answer" if operator == "Reciprocal" else "a model that runs"):
        require_answer(tmp_path)


def test_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(DamagedArtifact, match="expected a model that runs"):
        require_answer(tmp_path)

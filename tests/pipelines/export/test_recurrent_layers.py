"""A recurrent layer keeps its number of steps free in the delivered file, and answers as torch does at every length."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from paretta.pipelines.export.to_onnx import to_onnx


class Reader(nn.Module):
    """A recurrent layer, whose last states are part of the answer; lengths first or the batch first."""

    def __init__(self, layer: nn.GRU | nn.LSTM, *, starts: bool) -> None:
        super().__init__()
        self.layer, self.starts = layer, starts
        self.head = nn.Linear(layer.hidden_size * (2 if layer.bidirectional else 1), 2)

    def forward(self, values: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        given = values if self.layer.batch_first else values.transpose(0, 1)
        start = first.unsqueeze(0).repeat(self.layer.num_layers * (2 if self.layer.bidirectional else 1), 1, 1)
        is_lstm = isinstance(self.layer, nn.LSTM)
        states, last = self.layer(given, ((start, start * 0.5) if is_lstm else start) if self.starts else None)
        if is_lstm:
            last = torch.cat(last, dim=2)
        scores = self.head(states)
        return (scores if self.layer.batch_first else scores.transpose(0, 1)), last.transpose(0, 1)


@pytest.mark.parametrize("starts", [False, True])
@pytest.mark.parametrize(
    "layer",
    [
        nn.GRU(3, 4, batch_first=True),
        nn.GRU(3, 4, num_layers=2, bidirectional=True),
        nn.GRU(3, 4, bias=False, batch_first=True),
        nn.LSTM(3, 4, num_layers=2, batch_first=True),
        nn.LSTM(3, 4, bidirectional=True),
    ],
    ids=["gru", "gru twice, both ways", "gru without bias", "lstm twice", "lstm both ways"],
)
def test_the_file_answers_as_torch_at_every_length(layer: nn.GRU | nn.LSTM, starts: bool) -> None:
    torch.manual_seed(0)
    model = Reader(layer, starts=starts).eval()
    example = {"values": torch.randn(1, 7, 3), "first": torch.randn(1, 4)}
    made = to_onnx(model, example, {"values": {1: "steps"}})
    assert {node.op_type for node in made.graph.node} >= {type(layer).__name__}
    assert [dim.dim_param for dim in made.graph.input[0].type.tensor_type.shape.dim][:2] == ["batch", "steps"]
    content = made.SerializeToString()
    for count, steps in ((1, 7), (3, 2), (2, 19), (1, 1)):
        given = {"values": torch.randn(count, steps, 3), "first": torch.randn(count, 4)}
        with torch.no_grad():
            expected = model(**given)
        answers = _run(content, {name: tensor.numpy() for name, tensor in given.items()})
        for answer, wanted in zip(answers, expected, strict=True):
            np.testing.assert_allclose(answer, wanted.numpy(), atol=1e-5)


def _run(content: bytes, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    import onnxruntime

    opened = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return opened.run(None, feeds)

"""The file of a decoder of a few numbers, and feeds for it: scores of the token itself and of the mean of the cache."""

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from paretta.pipelines.data.feeds import Feeds

WORDS, WIDTH = 16, 8


def small_decoder() -> ModelProto:
    drawn = np.random.default_rng(0)
    table = numpy_helper.from_array(drawn.standard_normal((WORDS, WIDTH), np.float32), "table")
    head = numpy_helper.from_array(drawn.standard_normal((WIDTH, WORDS), np.float32), "head")
    axis = numpy_helper.from_array(np.array([1]), "one")
    cache = [n_axes(f"past_key_values.0.{part}", ["n", 1, "past", WIDTH]) for part in ("key", "value")]
    present = [n_axes(f"present.0.{part}", ["n", 1, "all", WIDTH]) for part in ("key", "value")]
    ids, mask = (
        helper.make_tensor_value_info(name, TensorProto.INT64, ["n", axis])
        for name, axis in (("input_ids", "tokens"), ("attention_mask", "all"))
    )
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["states"]),
        helper.make_node("Unsqueeze", ["states", "one"], ["new"]),
        *(helper.make_node("Concat", [p.name, "new"], [q.name], axis=2) for p, q in zip(cache, present, strict=True)),
        helper.make_node("ReduceMean", ["present.0.value"], ["mean"], keepdims=0, axes=[1, 2]),
        helper.make_node("Unsqueeze", ["mean", "one"], ["text"]),
        helper.make_node("Add", ["states", "text"], ["sum"]),
        helper.make_node("MatMul", ["sum", "head"], ["logits"]),
    ]
    inputs, outputs = [ids, mask, *cache], [n_axes("logits", ["n", "tokens", WORDS]), *present]
    graph = helper.make_graph(nodes, "decoder", inputs, outputs, [table, head, axis])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def n_axes(name: str, axes: list[str | int]) -> object:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, axes)


def decoder_feeds(count: int = 3, tokens: int = 5) -> Feeds:
    ids = np.random.default_rng(1).integers(0, WORDS, (count, tokens))
    empty = np.zeros((count, 1, 0, WIDTH), np.float32)
    cache = {"past_key_values.0.key": empty, "past_key_values.0.value": empty}
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), **cache}

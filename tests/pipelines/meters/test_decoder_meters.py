"""Meters of generating text call the file as a generating program does, and tell models that do not generate."""

from pathlib import Path

import numpy as np
import pytest
import torch
from small_decoder import decoder_feeds, small_decoder
from small_transformers import llama, splits, tokenizer

from paretta.integrations.transformers import causal_lm
from paretta.pipelines.meter import MeterBench, meter_of
from paretta.pipelines.meters.time_to_first_token import TimeToFirstToken
from paretta.pipelines.meters.tokens_per_second import TokensPerSecond
from paretta.pipelines.tasks.digits import make as digits


def shapes(meter: TokensPerSecond | TimeToFirstToken) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in meter.batch(MeterBench(None, decoder_feeds())).items()}


def test_a_prompt_has_its_tokens_and_an_empty_cache() -> None:
    found = shapes(TimeToFirstToken(tokens=7))
    assert found["input_ids"] == found["attention_mask"] == (1, 7)
    assert found["past_key_values.0.key"] == found["past_key_values.0.value"] == (1, 1, 0, 8)


def test_a_step_has_one_token_and_a_cache_of_the_context() -> None:
    found = shapes(TokensPerSecond(context=32, batch_size=4))
    assert (found["input_ids"], found["attention_mask"]) == ((4, 1), (4, 33))
    assert found["past_key_values.0.key"] == found["past_key_values.0.value"] == (4, 1, 32, 8)
    assert list(found) == list(decoder_feeds())  # in the order of the file's inputs


def test_a_rate_is_tokens_of_all_texts_over_seconds_and_a_time_is_the_seconds() -> None:
    seconds = np.array([[0.5, 0.8], [0.25, 0.5]])
    np.testing.assert_array_equal(TokensPerSecond(batch_size=2).value_of(seconds), [[4, 2.5], [8, 4]])
    np.testing.assert_array_equal(TimeToFirstToken().value_of(seconds), seconds)


def test_a_prompt_ten_times_as_long_is_a_longer_time(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(small_decoder().SerializeToString())
    bench = MeterBench(None, decoder_feeds())
    short, long = (
        TimeToFirstToken(tokens=tokens, budget_seconds=0.5).read(tmp_path, bench) for tokens in (100, 100_000)
    )
    assert (short.unit, short.details["positions"], long.details["positions"]) == ("s", 100, 100_000)
    assert (short.value or 0) * 10 < (long.value or 0)  # a thousand times the tokens


@pytest.mark.parametrize("kind", ["tokens_per_second", "time_to_first_token"])
def test_a_model_without_a_cache_is_told_before_and_at_the_reading(kind: str, tmp_path: Path) -> None:
    meter = meter_of(kind, {})
    told = "the model takes no cache of keys and values; causal_lm(..., cache=True) delivers one that does"
    assert meter.unfit(digits()) == told
    found = meter.read(tmp_path, MeterBench(None, {"input": np.zeros((1, 1, 8, 8), np.float32)}))
    assert (found.value, found.reason) == (None, told)


def test_more_positions_than_the_model_has_are_told() -> None:
    torch.manual_seed(0)
    task = causal_lm(llama(), tokenizer(), length=8, cache=True, **splits())  # with 32 positions
    assert TokensPerSecond(context=31).unfit(task) is None
    assert TimeToFirstToken(tokens=32).unfit(task) is None
    told = "it reaches 33 positions, and the model has 32; ask for fewer"
    assert TokensPerSecond(context=32).unfit(task) == TimeToFirstToken(tokens=33).unfit(task) == told

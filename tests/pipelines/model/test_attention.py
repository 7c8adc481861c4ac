"""Unfolded attention computes what torch's own does, in every way it may be called."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from paretta.pipelines.model.attention import Attention, can_unfold, unfold_attention

_DRAWS = torch.Generator().manual_seed(0)
QUERY, KEY = torch.randn(2, 5, 8, generator=_DRAWS), torch.randn(2, 7, 8, generator=_DRAWS)
CAUSAL = torch.ones(5, 7, dtype=torch.bool).triu(3)
PER_HEAD = torch.randn(4, 5, 7, generator=_DRAWS)
PADDED = torch.tensor([[False] * 7, [False] * 4 + [True] * 3])


def made(**settings: object) -> nn.MultiheadAttention:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2, **{"batch_first": True, **settings}).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.normal_()
    return attention


@pytest.mark.parametrize("call", [{}, {"need_weights": False}, {"average_attn_weights": False}], ids=str)
@pytest.mark.parametrize("mask", [None, CAUSAL, PER_HEAD], ids=["open", "causal", "per_head"])
@pytest.mark.parametrize("padding", [None, PADDED], ids=["whole", "padded"])
def test_outputs_and_weights_are_those_of_torch(call: dict, mask: torch.Tensor, padding: torch.Tensor) -> None:
    attention = made()
    if mask is not None and mask.is_floating_point() and padding is not None:
        padding = torch.zeros(padding.shape).masked_fill(padding, -torch.inf)  # torch wants one kind of mask
    expected = attention(QUERY, KEY, KEY, attn_mask=mask, key_padding_mask=padding, **call)
    found = Attention(attention)(QUERY, KEY, KEY, attn_mask=mask, key_padding_mask=padding, **call)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    "settings", [{"batch_first": False}, {"bias": False}, {"kdim": 3, "vdim": 4}, {"dropout": 0.5}], ids=str
)
def test_every_kind_of_attention_is_unfolded_alike(settings: dict) -> None:
    attention = made(**settings)
    key, value = QUERY[..., : attention.kdim], QUERY[..., : attention.vdim]
    torch.testing.assert_close(Attention(attention)(QUERY, key, value), attention(QUERY, key, value))


def test_one_sequence_needs_no_batch() -> None:
    attention = made()
    torch.testing.assert_close(Attention(attention)(QUERY[0], KEY[0], KEY[0]), attention(QUERY[0], KEY[0], KEY[0]))


class TwiceAttention(nn.MultiheadAttention):
    def forward(self, *args: torch.Tensor, **settings: object) -> tuple[torch.Tensor, torch.Tensor | None]:
        answer, weights = super().forward(*args, **settings)
        return 2 * answer, weights


def test_an_attention_of_another_class_stays() -> None:
    model = nn.Sequential(TwiceAttention(8, 2))
    assert type(unfold_attention(model)[0]) is TwiceAttention


def test_hooks_act_on_unfolded_attention_too() -> None:
    attention = made()
    attention.register_forward_hook(lambda _, __, answer: (3 * answer[0] + 1, answer[1]))
    attention.register_forward_pre_hook(lambda _, given: (given[0] + 1, *given[1:]))
    found, expected = Attention(attention)(QUERY, KEY, KEY), attention(QUERY, KEY, KEY)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_extra_keys_cannot_be_unfolded() -> None:
    for setting in ("add_bias_kv", "add_zero_attn"):
        model = nn.Sequential(made(**{setting: True}))
        assert not can_unfold(model[0])
        assert isinstance(unfold_attention(model)[0], nn.MultiheadAttention)


@pytest.mark.parametrize("norm_first", [False, True])
def test_a_transformer_encoder_answers_the_same_in_both_modes(norm_first: bool) -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, norm_first=norm_first)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=not norm_first)
    unfolded = unfold_attention(deepcopy(model))
    assert not any(isinstance(module, nn.MultiheadAttention) for module in unfolded.modules())
    names = {name for name, module in unfolded.named_modules() if isinstance(module, nn.Linear)}
    assert {"layers.0.self_attn.q_proj", "layers.1.self_attn.out_proj", "layers.0.linear1"} <= names
    for training in (True, False):
        expected = model.train(training)(KEY, src_key_padding_mask=PADDED)
        with torch.no_grad():
            found = unfolded.train(training)(KEY, src_key_padding_mask=PADDED)
        seen = ~PADDED
        torch.testing.assert_close(found[seen], expected[seen], rtol=1e-4, atol=1e-5)

"""Heads and hidden neurons of transformers are removed, and the rest computes what zeroed heads would."""

from collections.abc import Callable

import pytest
import torch
from attention_models import Residual, Split, bench
from torch import Tensor, nn

from paretta.pipelines.bench import seeded
from paretta.pipelines.model.attention import Attention, unfold_attention
from paretta.pipelines.pruning.proof import Proof
from paretta.pipelines.stages.prune import Prune
from paretta.search_spaces.errors import WrongInput


class Encoder(nn.Module):
    """Six tokens through two of torch's own encoder layers, with a position table."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.positions = nn.Linear(6, 16), nn.Parameter(torch.randn(1, 6, 16) / 4)
        layer = nn.TransformerEncoderLayer(16, 4, 24, dropout=0.0, activation="gelu", batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.layers(self.embedding(images[:, 0]) + self.positions).mean(1))


class OwnAttention(nn.Module):
    """Attention as people write it; with `fixed` its forward insists on the width it was made with."""

    def __init__(self, *, fixed: bool = False) -> None:
        super().__init__()
        self.num_heads, self.fixed = 4, fixed
        self.query, self.key, self.value = (nn.Linear(6, 16) for _ in range(3))
        self.output = nn.Linear(16, 6)

    def forward(self, tokens: Tensor) -> Tensor:
        n, t, _ = tokens.shape
        heads = 4 if self.fixed else self.num_heads
        q, k, v = (
            layer(tokens).view(n, t, heads, 4 if self.fixed else -1).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = torch.softmax(q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5, -1) @ v
        return self.output(mixed.transpose(1, 2).flatten(2))


class Tokens(nn.Module):
    """Attention between two layers, over the rows of an image."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention, self.hidden, self.head = attention, nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        tokens = images[:, 0]
        return self.head(self.hidden(self.attention(tokens)).relu().mean(1))


def fresh(make: Callable[[], nn.Module]) -> nn.Module:
    with seeded(0):
        return make().eval()


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def attentions(model: nn.Module) -> list[Attention]:
    return [module for module in model.modules() if isinstance(module, Attention)]


def test_half_of_everything_goes() -> None:
    model = Prune(sparsity=0.5).apply(fresh(Encoder), bench(Encoder))
    assert [attention.num_heads for attention in attentions(model)] == [2, 2]
    assert [tuple(attention.q_proj.weight.shape) for attention in attentions(model)] == [(8, 8), (8, 8)]
    assert [tuple(attention.out_proj.weight.shape) for attention in attentions(model)] == [(8, 8), (8, 8)]
    assert [layer.linear1.out_features for layer in model.layers.layers] == [12, 12]
    assert tuple(model.positions.shape) == (1, 6, 8)
    model.train()
    model(torch.randn(5, 1, 6, 6)).sum().backward()
    assert count(model) < count(Encoder()) / 2


@pytest.mark.parametrize("importance", ["l1", "taylor", "activity"])
def test_what_is_left_computes_what_zeroed_heads_would(importance: str) -> None:
    """Independent of the graph library: a head whose output columns are zero contributes nothing."""
    reference, images = unfold_attention(fresh(Encoder)), torch.randn(7, 1, 6, 6)
    pruned = Prune(sparsity={"*self_attn*": 0.5}, importance=importance).apply(fresh(Encoder), bench(Encoder))
    assert [attention.num_heads for attention in attentions(pruned)] == [2, 2]
    for whole, part in zip(attentions(reference), attentions(pruned), strict=True):
        heads = whole.q_proj.weight.view(4, 4, 16)
        kept = [
            head
            for head in range(4)
            if any(torch.equal(heads[head], rest) for rest in part.q_proj.weight.view(2, 4, 16))
        ]
        assert len(kept) == 2
        columns = whole.out_proj.weight.data.view(16, 4, 4)
        columns[:, [head for head in range(4) if head not in kept]] = 0.0
    assert torch.allclose(pruned(images), reference(images), atol=1e-5)


def test_the_weakest_heads_go() -> None:
    model = unfold_attention(fresh(Encoder))
    attention = model.layers.layers[0].self_attn
    with torch.no_grad():
        for layer in (attention.q_proj, attention.k_proj, attention.v_proj):
            layer.weight.view(4, 4, 16)[1] *= 0.01
    second = attention.q_proj.weight.view(4, 4, 16)[2].clone()
    Prune(sparsity={"layers.layers.0.self_attn.*": 0.25}).apply(model, bench(Encoder))
    assert attention.num_heads == 3
    assert torch.equal(attention.q_proj.weight.view(3, 4, 16)[1], second)


def test_each_pattern_has_its_own_share_and_others_keep_their_width() -> None:
    model = Prune(sparsity={"*.0.linear1": 0.5, "*linear1": 0.75}).apply(fresh(Encoder), bench(Encoder))
    assert [layer.linear1.out_features for layer in model.layers.layers] == [12, 6]
    assert [attention.num_heads for attention in attentions(model)] == [4, 4]
    assert model.head.in_features == 16


def test_attention_that_reads_its_number_of_heads_loses_heads() -> None:
    model = Prune(sparsity=0.5).apply(fresh(lambda: Tokens(OwnAttention())), bench(lambda: Tokens(OwnAttention())))
    assert model.attention.num_heads == 2
    assert tuple(model.attention.output.weight.shape) == (3, 8)


def test_attention_with_a_fixed_width_keeps_it_and_is_named(caplog: pytest.LogCaptureFixture) -> None:
    def make() -> nn.Module:
        return Tokens(OwnAttention(fixed=True))

    model = Prune(sparsity=0.5).apply(fresh(make), bench(make))
    assert (model.attention.query.out_features, model.hidden.out_features) == (16, 4)
    assert "keep their width: the model's forward depends on their number: shape" in caplog.text


@torch.no_grad()
def silenced(whole: nn.Module, part: nn.Module) -> nn.Module:
    """Zero the channels and heads of `whole` that `part` no longer has."""
    stays = [any(torch.equal(row, left) for left in part.embedding.weight) for row in whole.embedding.weight]
    gone = [not stay for stay in stays]
    first = part.attention.split == "heads first"
    queries = [
        (m.attention.qkv.weight.unflatten(0, (-1, 3, 4))[:, 0] if first else m.attention.qkv.weight.chunk(3)[0])
        for m in (whole, part)
    ]
    heads = queries[1].reshape(-1, 4, sum(stays))
    for index, head in enumerate(queries[0].reshape(4, 4, -1)[..., stays]):
        if not any(torch.equal(head, left) for left in heads):
            whole.attention.output.weight[:, 4 * index : 4 * index + 4] = 0
    for layer in (whole.embedding, whole.attention.output):
        layer.weight[gone], layer.bias[gone] = 0, 0
    return whole


@pytest.mark.parametrize(
    ("split", "sparsity", "num_heads", "width"),
    [
        ("module", {"*qkv": 0.5}, 2, 16),
        ("layer", 0.3, 3, 12),
        ("heads first", {"*qkv": 0.5}, 2, 16),
        # its forward takes the width of the input for that of all heads: 11 channels would be no number of heads
        ("input", 0.35, 3, 12),
    ],
)
def test_heads_leave_a_fused_projection(
    split: Split, sparsity: float | dict[str, float], num_heads: int, width: int
) -> None:
    images, (whole, model) = torch.randn(7, 1, 6, 6), (fresh(lambda: Residual(split)) for _ in range(2))
    model = Prune(sparsity=sparsity).apply(model, bench(lambda: Residual(split)))
    assert (model.attention.num_heads, model.embedding.out_features) == (num_heads, width)
    assert tuple(model.attention.qkv.weight.shape) == (12 * num_heads, width)
    assert torch.allclose(model(images), silenced(whole, model)(images), atol=1e-5)


@pytest.mark.parametrize(
    ("split", "sparsity", "importance"), [("layer", {"*qkv": 0.25}, "activity"), ("input", 0.25, "taylor")]
)
def test_the_weakest_heads_leave_a_fused_projection(
    split: Split, sparsity: float | dict[str, float], importance: str
) -> None:
    model = fresh(lambda: Residual(split))
    with torch.no_grad():
        model.attention.qkv.weight.view(3, 4, 4, 16)[:, 1] *= 0.01
        model.attention.qkv.bias.view(3, 4, 4)[:, 1] *= 0.01
    biases = model.attention.qkv.bias.view(3, 4, 4)[:, [0, 2, 3]].flatten().clone()
    Prune(sparsity=sparsity, importance=importance).apply(model, bench(lambda: Residual(split)))
    assert torch.equal(model.attention.qkv.bias, biases)


def test_a_fused_projection_that_cannot_lose_heads_keeps_its_width_and_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = Prune(sparsity=0.5).apply(fresh(lambda: Residual("fixed")), bench(lambda: Residual("fixed")))
    assert (model.attention.num_heads, model.attention.qkv.out_features, model.embedding.out_features) == (4, 48, 8)
    assert "attention.qkv keep their width: the model's forward depends on their number: shape" in caplog.text


def test_heads_that_are_tied_to_the_width_of_the_input_are_among_its_names() -> None:
    tied = "embedding, attention.output, attention.qkv"
    with pytest.raises(WrongInput, match=rf"\*qkv matches only some of the layers whose widths are tied: {tied}"):
        Prune(sparsity={"*qkv": 0.5}).apply(fresh(lambda: Residual("input")), bench(lambda: Residual("input")))


def test_a_pattern_without_a_layer_is_named() -> None:
    with pytest.raises(WrongInput, match="no layer is called 'atention'"):
        Prune(sparsity={"atention": 0.5}).apply(fresh(Encoder), bench(Encoder))


def test_a_pattern_for_half_of_a_tied_width_is_named() -> None:
    with pytest.raises(WrongInput, match=r"\*out_proj matches only some of the layers whose widths are tied: "):
        Prune(sparsity={"*out_proj": 0.5}).apply(fresh(Encoder), bench(Encoder))


class WideAttention(nn.Module):
    """A vision transformer's attention with 192 channels, whose forward reads three attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.attn_dim = 6, 32, 192
        self.qkv, self.proj = nn.Linear(192, 576), nn.Linear(192, 192)

    def forward(self, tokens: Tensor) -> Tensor:
        n, t, _ = tokens.shape
        query, key, value = self.qkv(tokens).reshape(n, t, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).reshape(n, t, self.attn_dim))


class WideTokens(nn.Module):
    """That attention beside its input, over the rows of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.attention, self.head = nn.Linear(6, 192), WideAttention(), nn.Linear(192, 3)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.embedding(images[:, 0])
        return self.head((tokens + self.attention(tokens)).mean(1))


def test_the_declared_heads_of_a_wide_fused_projection_are_found_among_its_many_divisions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[object] = []
    obstacle = Proof.obstacle
    monkeypatch.setattr(Proof, "obstacle", lambda self, cuts: tried.append(cuts) or obstacle(self, cuts))
    model = Prune(sparsity={"*qkv": 0.5}).apply(fresh(WideTokens), bench(WideTokens))
    assert (model.attention.num_heads, model.attention.attn_dim, model.attention.head_dim) == (3, 96, 32)
    assert (model.attention.qkv.out_features, model.attention.proj.in_features) == (288, 96)
    assert len(tried) < 60

"""Small networks for sequences and tables with the structure of well-known ones."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations


class Mean(nn.Module):
    """The mean over the tokens, [n, tokens, width]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


class Swapped(nn.Module):
    """Channels and positions change places."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


class Chomp(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return x[..., : -self.size]


class TemporalBlock(nn.Module):
    """Two causal convolutions beside their input."""

    def __init__(self, width: int, dilation: int, wrap: Callable[[nn.Module], nn.Module]) -> None:
        super().__init__()
        layers = [wrap(nn.Conv1d(width, width, 3, padding=2 * dilation, dilation=dilation)) for _ in range(2)]
        self.layers = nn.Sequential(
            layers[0], Chomp(2 * dilation), nn.ReLU(), layers[1], Chomp(2 * dilation), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.layers(x)).relu()


def temporal(*, weight_norm: bool) -> nn.Module:
    wrap: Callable[[nn.Module], nn.Module] = parametrizations.weight_norm if weight_norm else lambda layer: layer
    blocks = [TemporalBlock(12, dilation, wrap) for dilation in (1, 2)]
    return nn.Sequential(Swapped(), nn.Conv1d(6, 12, 1), *blocks, Swapped(), Mean(), nn.Linear(12, 5))


def waveform() -> nn.Module:
    layers: list[nn.Module] = []
    for inner, outer, size, stride in ((1, 12, 20, 4), (12, 12, 3, 1), (12, 24, 3, 1)):
        layers += [nn.Conv1d(inner, outer, size, stride), nn.BatchNorm1d(outer), nn.ReLU(), nn.MaxPool1d(2)]
    return nn.Sequential(*layers, Swapped(), Mean(), nn.Linear(24, 5))


class Recurrent(nn.Module):
    """A recurrent layer, perhaps after a convolution; `last` reads the final state, else the answers."""

    def __init__(self, layer: nn.RNNBase, *, convolved: bool = False, last: bool = False) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv1d(6, 16, 3, padding=1), nn.BatchNorm1d(16), nn.ReLU()) if convolved else None
        width = layer.hidden_size * (2 if layer.bidirectional else 1)
        self.rnn, self.last, self.hidden, self.head = layer, last, nn.Linear(width, 12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        if self.stem is not None:
            x = self.stem(x.transpose(1, 2)).transpose(1, 2)
        answers, state = self.rnn(x)
        state = state[0] if isinstance(state, tuple) else state
        return self.head(self.hidden(state[-1] if self.last else answers[:, -1]).relu())


class Cell(nn.Module):
    """A recurrent cell in a loop."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.cell, self.head = nn.Linear(6, 12), nn.GRUCell(12, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x, state = self.embed(x).relu(), x.new_zeros(x.shape[0], 8)
        for step in range(x.shape[1]):
            state = self.cell(x[:, step], state)
        return self.head(state)


def perceptron(*, affine: bool = True, norm_last: bool = False) -> nn.Module:
    layers: list[nn.Module] = []
    for inner in (20, 24):
        after = [nn.ReLU(), nn.BatchNorm1d(24)] if norm_last else [nn.BatchNorm1d(24, affine=affine), nn.ReLU()]
        layers += [nn.Linear(inner, 24), *after]
    return nn.Sequential(*layers, nn.Linear(24, 5))


class Gated(nn.Module):
    """What one layer makes gates itself; `how` tells both halves apart."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.wide, self.narrow, self.head = how, nn.Linear(20, 32), nn.Linear(16, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.wide(x)
        match self.how:
            case "glu":
                x = functional.glu(x, 1)
            case "chunk":
                x, gate = x.chunk(2, 1)
                x = x * gate.sigmoid()
            case "split":
                x, gate = x.split(x.shape[1] // 2, 1)
                x = x * gate.sigmoid()
            case "fixed split":
                x, gate = x.split(16, 1)
                x = x * gate.sigmoid()
            case "fixed slice":
                x = x[:, :16] * x[:, 16:].sigmoid()
        return self.head(self.narrow(x).relu())


class MixerBlock(nn.Module):
    """Perceptrons over the tokens and over the channels."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.over_tokens = nn.Sequential(nn.Linear(tokens, 16), nn.GELU(), nn.Linear(16, tokens))
        self.over_channels = nn.Sequential(nn.Linear(width, 32), nn.GELU(), nn.Linear(32, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.over_tokens(self.norms[0](x).transpose(1, 2)).transpose(1, 2)
        return x + self.over_channels(self.norms[1](x))


class RootMeanSquareNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


class SeparateSelf(nn.Module):
    """Queries, keys and values of an attention whose output layer is in another module."""

    def __init__(self, width: int, heads: int, *, told: bool) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.head_size = width // heads
        if told:
            self.num_attention_heads, self.all_head_size, self.told = heads, width, True
        else:
            self.told = False

    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        shape = (n, t, self.num_attention_heads if self.told else -1, self.head_size)
        q, k, v = (layer(x).view(shape).transpose(1, 2) for layer in (self.query, self.key, self.value))
        mixed = (q @ k.transpose(-1, -2) / math.sqrt(self.head_size)).softmax(-1) @ v
        return mixed.transpose(1, 2).reshape(n, t, self.all_head_size if self.told else -1)


class SeparateOutput(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense, self.norm = nn.Linear(width, width), nn.LayerNorm(width)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.norm(self.dense(x) + residual)


class SeparateBlock(nn.Module):
    """A block of an encoder whose parts are modules of their own."""

    def __init__(self, width: int = 24, heads: int = 4, *, told: bool = True) -> None:
        super().__init__()
        self.attention, self.output = SeparateSelf(width, heads, told=told), SeparateOutput(width)
        self.up, self.down = nn.Linear(width, 40), nn.Linear(40, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.output(self.attention(x), x)
        return self.norm(x + self.down(functional.gelu(self.up(x))))


class FusedCausalBlock(nn.Module):
    """A block of a decoder: one layer makes queries, keys and values; norms come first."""

    def __init__(self, width: int = 24, heads: int = 4) -> None:
        super().__init__()
        self.heads, self.before, self.between = heads, nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        parts = (p.view(n, t, self.heads, -1).transpose(1, 2) for p in self.qkv(self.before(x)).chunk(3, -1))
        mixed = functional.scaled_dot_product_attention(*parts, is_causal=True)
        x = x + self.project(mixed.transpose(1, 2).reshape(n, t, -1))
        return x + self.down(functional.gelu(self.up(self.between(x))))


class RotaryBlock(nn.Module):
    """A block of a decoder with rotary positions, fewer keys than queries, and a gated hidden layer."""

    def __init__(self, *, key_heads: int = 2, interleaved: bool = False, width: int = 24) -> None:
        super().__init__()
        self.head_width, self.interleaved = 6, interleaved
        self.before, self.between = RootMeanSquareNorm(width), RootMeanSquareNorm(width)
        self.q_proj, self.o_proj = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.k_proj, self.v_proj = (nn.Linear(width, 6 * key_heads, bias=False) for _ in range(2))
        self.gate, self.up, self.down = nn.Linear(width, 40), nn.Linear(width, 40), nn.Linear(40, width)

    def rotated(self, x: Tensor) -> Tensor:
        angles = torch.arange(x.shape[2], device=x.device)[:, None] * torch.tensor([1.0, 0.1, 0.01], device=x.device)
        cos, sin = angles.cos().repeat(1, 2).to(x.dtype), angles.sin().repeat(1, 2).to(x.dtype)
        first, second = x.chunk(2, -1)
        return x * cos + torch.cat([-second, first], -1) * sin

    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        y = self.before(x)
        q, k, v = (
            layer(y).view(n, t, -1, self.head_width).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = self.rotated(q), self.rotated(k)
        repeats = q.shape[1] // k.shape[1]
        if repeats > 1 and self.interleaved:
            k, v = k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)
        elif repeats > 1:
            k, v = (
                z[:, :, None].expand(n, z.shape[1], repeats, t, self.head_width).reshape(n, -1, t, self.head_width)
                for z in (k, v)
            )
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o_proj(mixed.transpose(1, 2).reshape(n, t, -1))
        y = self.between(x)
        return x + self.down(functional.silu(self.gate(y)) * self.up(y))


class RelativeBlock(nn.Module):
    """Attention with a learned bias for each head and distance."""

    def __init__(self, width: int = 24, heads: int = 4, tokens: int = 8) -> None:
        super().__init__()
        self.num_heads, self.norm = heads, nn.LayerNorm(width)
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.bias = nn.Parameter(torch.randn(2 * tokens - 1, heads))
        places = torch.arange(tokens)
        self.register_buffer("distance", places[:, None] - places[None] + tokens - 1)

    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        y = self.norm(x)
        q, k, v = (layer(y).view(n, t, self.num_heads, -1).transpose(1, 2) for layer in (self.q, self.k, self.v))
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        scores = scores + self.bias[self.distance.view(-1)].view(t, t, -1).permute(2, 0, 1)
        return x + self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(n, t, -1))


class Vit(nn.Module):
    """Patches of an image, a class token, positions, torch's own encoder layers."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.token = nn.Conv2d(3, 24, 4, 4), nn.Parameter(torch.randn(1, 1, 24))
        self.positions = nn.Parameter(torch.randn(1, 17, 24))
        layer = nn.TransformerEncoderLayer(24, 4, 40, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
        self.layers, self.norm = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.LayerNorm(24)
        self.head = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        return self.head(self.norm(self.layers(x))[:, 0])


class Tokens(nn.Module):
    """Token ids through an embedding with positions, some blocks and a head; `tied` shares the embedding's weight."""

    def __init__(self, *blocks: nn.Module, width: int = 24, pooled: bool = True, tied: bool = False) -> None:
        super().__init__()
        self.embed, self.positions = nn.Embedding(30, width), nn.Embedding(8, width)
        self.blocks, self.pooled = nn.Sequential(*blocks), pooled
        self.head = nn.Linear(width, 30 if tied else 5, bias=not tied)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        x = self.blocks(x)
        return self.head(x.mean(1) if self.pooled else x)

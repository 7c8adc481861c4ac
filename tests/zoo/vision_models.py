"""Small networks for images with the structure of well-known ones."""

import torch
from torch import Tensor, nn
from torch.nn import functional


def conv(inner: int, outer: int, size: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(inner, outer, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outer), nn.ReLU())


class Classifier(nn.Module):
    """A body, the mean over pixels, a head."""

    def __init__(self, width: int, *body: nn.Module) -> None:
        super().__init__()
        self.body, self.head = nn.Sequential(*body), nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)))


class Basic(nn.Module):
    """A residual block of two convolutions, with a projection where the width changes."""

    def __init__(self, inner: int, outer: int, stride: int = 1) -> None:
        super().__init__()
        self.one = conv(inner, outer, stride=stride)
        self.two = nn.Sequential(nn.Conv2d(outer, outer, 3, padding=1, bias=False), nn.BatchNorm2d(outer))
        self.skip = nn.Identity() if inner == outer else nn.Conv2d(inner, outer, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return (self.two(self.one(x)) + self.skip(x)).relu()


class Bottleneck(nn.Module):
    def __init__(self, width: int, inner: int, groups: int = 1) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            conv(width, inner, 1), conv(inner, inner, groups=groups), nn.Conv2d(inner, width, 1), nn.BatchNorm2d(width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.branch(x)).relu()


class PreActivation(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(2))
        self.layers = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for norm, layer in zip(self.norms, self.layers, strict=True):
            y = layer(norm(y).relu())
        return x + y


class Dense(nn.Module):
    """Every layer reads what all before it made."""

    def __init__(self, width: int, growth: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(width + i * growth), nn.ReLU(), nn.Conv2d(width + i * growth, growth, 3, padding=1)
            )
            for i in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return x


class Inception(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.one, self.three = conv(width, 8, 1), nn.Sequential(conv(width, 6, 1), conv(6, 12))
        self.five, self.pooled = nn.Sequential(conv(width, 4, 1), conv(4, 8, 5)), conv(width, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.pooled(functional.max_pool2d(x, 3, 1, 1))
        return torch.cat([self.one(x), self.three(x), self.five(x), pooled], 1)


class SqueezeExcite(nn.Module):
    def __init__(self, width: int, gate: nn.Module) -> None:
        super().__init__()
        self.down, self.up, self.gate = nn.Conv2d(width, width // 4, 1), nn.Conv2d(width // 4, width, 1), gate

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.up(self.down(x.mean((2, 3), keepdim=True)).relu()))


class InvertedResidual(nn.Module):
    def __init__(self, width: int, inner: int, act: type[nn.Module], gate: nn.Module | None = None) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(width, inner, 1, bias=False), nn.BatchNorm2d(inner), act())
        depthwise = nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=False)
        self.depthwise = nn.Sequential(depthwise, nn.BatchNorm2d(inner), act())
        self.squeeze = SqueezeExcite(inner, gate) if gate else nn.Identity()
        self.project = nn.Sequential(nn.Conv2d(inner, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.project(self.squeeze(self.depthwise(self.expand(x))))


class LinearSqueezeExcite(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, width // 4), nn.Linear(width // 4, width)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.up(self.down(x.mean((2, 3))).relu()).sigmoid()[:, :, None, None]


class ShuffleUnit(nn.Module):
    """Half of the channels pass, half are convolved, and both are shuffled."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        depthwise = nn.Sequential(nn.Conv2d(half, half, 3, padding=1, groups=half), nn.BatchNorm2d(half))
        self.branch = nn.Sequential(conv(half, half, 1), depthwise, conv(half, half, 1))

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, dim=1)
        n, c, h, w = x.shape
        both = torch.cat([left, self.branch(right)], 1)
        return both.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class ShuffleDown(nn.Module):
    """Halves the size, convolves all channels twice side by side, and shuffles both."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        half, down = outer // 2, {"stride": 2, "padding": 1}
        self.left = nn.Sequential(nn.Conv2d(inner, inner, 3, groups=inner, **down), conv(inner, half, 1))
        self.right = nn.Sequential(
            conv(inner, half, 1), nn.Conv2d(half, half, 3, groups=half, **down), conv(half, half, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([self.left(x), self.right(x)], 1)
        n, c, h, w = both.shape
        return both.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class Shuffled(nn.Module):
    """Two convolutions with a shuffle of their channels between."""

    def __init__(self, shuffle: nn.Module | None) -> None:
        super().__init__()
        self.one, self.two, self.shuffle, self.head = conv(3, 16), conv(16, 12), shuffle, nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        if self.shuffle is not None:
            x = self.shuffle(x)
        else:
            n, c, h, w = x.shape
            x = x.view(n, 4, c // 4, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.head(self.two(x).mean((2, 3)))


class Ghost(nn.Module):
    """Half of the channels are cheap copies of the other half."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.primary, self.cheap = conv(inner, outer // 2, 1), conv(outer // 2, outer // 2, groups=outer // 2)

    def forward(self, x: Tensor) -> Tensor:
        made = self.primary(x)
        return torch.cat([made, self.cheap(made)], 1)


class ChannelsFirstNorm(nn.Module):
    """A layer norm over the channels of an image."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        mean, spread = x.mean(1, keepdim=True), x.var(1, keepdim=True, unbiased=False)
        return (x - mean) / (spread + 1e-6).sqrt() * self.weight[:, None, None] + self.bias[:, None, None]


class ConvNeXtBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise, self.norm = nn.Conv2d(width, width, 5, padding=2, groups=width), nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.scale = nn.Parameter(torch.full((width,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + (self.scale * self.down(functional.gelu(self.up(y)))).permute(0, 3, 1, 2)


class UNet(nn.Module):
    """Two scales; `up` doubles the size."""

    def __init__(self, up: nn.Module) -> None:
        super().__init__()
        self.left, self.bottom, self.up = conv(3, 8), nn.Sequential(nn.MaxPool2d(2), conv(8, 16)), up
        self.right, self.head = conv(16, 8), nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        left = self.left(x)
        return self.head(self.right(torch.cat([left, self.up(self.bottom(left))], 1)))


class Detector(nn.Module):
    """Two scales with lateral layers; classes and boxes of all cells in one output, [n, cells, 7]."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = conv(3, 12, stride=2), conv(12, 16, stride=2)
        self.lateral = nn.ModuleList([nn.Conv2d(12, 8, 1), nn.Conv2d(16, 8, 1)])
        self.tower, self.classes, self.boxes = conv(8, 8), nn.Conv2d(8, 3, 3, padding=1), nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.fine(x)
        top = self.lateral[1](self.coarse(fine))
        levels = [self.lateral[0](fine) + functional.interpolate(top, scale_factor=2.0), top]
        towers = [self.tower(level) for level in levels]
        return torch.cat([torch.cat([self.classes(t), self.boxes(t)], 1).flatten(2) for t in towers], 2).transpose(1, 2)


class Upscaler(nn.Module):
    """Pixels out of channels, at the end or before a last convolution."""

    def __init__(self, *, last: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 12 if last else 32, 3, padding=1)
        )
        self.shuffle = nn.PixelShuffle(2)
        self.tail = nn.Identity() if last else nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.shuffle(self.body(x)))


class Autoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(conv(3, 8, stride=2), conv(8, 12, stride=2), nn.Flatten(), nn.Linear(192, 10))
        self.fill = nn.Linear(10, 192)
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(12, 8, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(8, 3, 4, 2, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.fill(self.encoder(x)).relu().view(-1, 12, 4, 4))


class SpatialAttention(nn.Module):
    """Looks at the mean and the largest of all channels: they cannot go unnoticed."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.gate, self.last, self.head = (
            conv(3, 12),
            nn.Conv2d(2, 1, 3, padding=1),
            conv(12, 8),
            nn.Linear(8, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        gate = self.gate(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)).sigmoid()
        return self.head(self.last(x * gate).mean((2, 3)))


class Siamese(nn.Module):
    """One convolution is used three times."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.again, self.head = conv(3, 12), nn.Conv2d(12, 12, 3, padding=1), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for _ in range(3):
            x = self.again(x).relu()
        return self.head(x.mean((2, 3)))

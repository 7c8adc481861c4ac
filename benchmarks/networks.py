"""The residual networks that several benchmarks compress."""

from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    """Two convolutions and a way around them (He et al., 2016)."""

    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out)
        self.around: nn.Module = nn.Identity()
        if stride > 1 or width != out:
            self.around = nn.Sequential(nn.Conv2d(width, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, images: Tensor) -> Tensor:
        """Return maps of `out` channels."""
        inner = functional.relu(self.norm1(self.conv1(images)))
        return functional.relu(self.norm2(self.conv2(inner)) + self.around(images))


def resnet_8(width: int = 16, *, colours: int = 1, num_classes: int = 10) -> nn.Module:
    """Return three blocks after a convolution on `colours` channels: about 78,000 parameters (MLPerf Tiny)."""
    stem = (nn.Conv2d(colours, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
    blocks = (Block(width, width, 1), Block(width, 2 * width, 2), Block(2 * width, 4 * width, 2))
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, num_classes))


def resnet_18() -> nn.Module:
    """Return a ResNet-18, 11.7 M parameters."""
    widths = [(64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1)]
    widths += [(256, 512, 2), (512, 512, 1)]
    stem = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000)]
    return nn.Sequential(*stem, *(Block(*width) for width in widths), *head)

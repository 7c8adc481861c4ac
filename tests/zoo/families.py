"""The models of the zoo: how each is made, what it is fed, and which layers keep their width when half shall go."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import sequence_models as s
import torch
import vision_models as v
from torch import Tensor, nn

IMAGES = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
SERIES = torch.randn(8, 10, 6, generator=torch.Generator().manual_seed(2)).cumsum(1)
SOUND = torch.sin(torch.arange(300) * torch.linspace(0.05, 0.6, 8)[:, None])[:, None]
TABLE = torch.randn(8, 20, generator=torch.Generator().manual_seed(3))
IDS = torch.randint(0, 30, (8, 8), generator=torch.Generator().manual_seed(4))


@dataclass(frozen=True)
class Family:
    """One model.

    Args:
        make: makes it.
        inputs: [n, ...], looks like real data.
        kept: of each group of layers that keeps its width, the first one's name and words of the reason.
    """

    make: Callable[[], nn.Module]
    inputs: Tensor
    kept: dict[str, str] = field(default_factory=dict)


def image(make: Callable[[], nn.Module], kept: dict[str, str] | None = None) -> Family:
    return Family(make, IMAGES, kept or {})


def tokens(*blocks: Callable[[], nn.Module], **settings: bool) -> Family:
    return Family(lambda: s.Tokens(*(block() for block in blocks), **settings), IDS)


FAMILIES = {
    "resnet basic": image(lambda: v.Classifier(12, v.conv(3, 8), v.Basic(8, 8), v.Basic(8, 12, 2))),
    "resnet bottleneck": image(lambda: v.Classifier(16, v.conv(3, 16), v.Bottleneck(16, 8), v.Bottleneck(16, 8))),
    "resnext": image(lambda: v.Classifier(16, v.conv(3, 16), v.Bottleneck(16, 8, groups=2))),
    "pre-activation": image(
        lambda: v.Classifier(
            8, nn.Conv2d(3, 8, 3), v.PreActivation(8), v.PreActivation(8), nn.BatchNorm2d(8), nn.ReLU()
        )
    ),
    "densenet": image(
        lambda: v.Classifier(
            12, nn.Conv2d(3, 8, 3), v.Dense(8, 4, 3), nn.BatchNorm2d(20), nn.ReLU(), nn.Conv2d(20, 12, 1)
        )
    ),
    "inception": image(lambda: v.Classifier(16, v.conv(3, 12), v.Inception(12), v.conv(32, 16))),
    "mobilenet v1": image(lambda: v.Classifier(16, v.conv(3, 8), v.conv(8, 8, groups=8), v.conv(8, 16, 1))),
    "mobilenet v2": image(lambda: v.Classifier(8, v.conv(3, 8), v.InvertedResidual(8, 24, nn.ReLU6))),
    "mobilenet v3": image(
        lambda: v.Classifier(8, v.conv(3, 8), v.InvertedResidual(8, 24, nn.Hardswish, nn.Hardsigmoid()))
    ),
    "efficientnet": image(lambda: v.Classifier(8, v.conv(3, 8), v.InvertedResidual(8, 24, nn.SiLU, nn.Sigmoid()))),
    "squeeze-excite": image(lambda: v.Classifier(12, v.conv(3, 16), v.LinearSqueezeExcite(16), v.conv(16, 12))),
    "shufflenet v2": image(
        lambda: v.Classifier(12, v.conv(3, 16), v.ShuffleUnit(16), v.ShuffleUnit(16), v.conv(16, 12)),
        {"body.0.0": "depends on their number"},
    ),
    "shufflenet v2 whole": image(
        lambda: v.Classifier(
            16, v.conv(3, 8), v.ShuffleDown(8, 16), v.ShuffleUnit(16), v.ShuffleUnit(16), v.conv(16, 16, 1)
        ),
        {"body.1.left.1.0": "depends on their number"},
    ),
    "shuffle by view": image(lambda: v.Shuffled(None)),
    "shuffle by module": image(lambda: v.Shuffled(nn.ChannelShuffle(4))),
    "ghostnet": image(lambda: v.Classifier(12, v.conv(3, 8), v.Ghost(8, 16), v.conv(16, 12))),
    "convnext": image(lambda: v.Classifier(12, nn.Conv2d(3, 12, 2, 2), v.ChannelsFirstNorm(12), v.ConvNeXtBlock(12))),
    "group norm": image(
        lambda: v.Classifier(12, nn.Conv2d(3, 8, 3), nn.GroupNorm(4, 8), nn.ReLU(), nn.Conv2d(8, 12, 3))
    ),
    "vgg": image(
        lambda: nn.Sequential(
            v.conv(3, 8), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(128, 24), nn.ReLU(), nn.Dropout(), nn.Linear(24, 5)
        )
    ),
    "unet transposed": image(lambda: v.UNet(nn.ConvTranspose2d(16, 8, 2, 2))),
    "unet upsampled": image(
        lambda: v.UNet(nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(16, 8, 1)))
    ),
    "detector": image(v.Detector),
    "pixel shuffle last": image(lambda: v.Upscaler(last=True)),
    "pixel shuffle inside": image(lambda: v.Upscaler(last=False)),
    "autoencoder": image(v.Autoencoder),
    "spatial attention": image(v.SpatialAttention, {"stem.0": "which of their channels belong together"}),
    "siamese": image(v.Siamese),
    "vit": image(s.Vit),
    "tcn": Family(lambda: s.temporal(weight_norm=False), SERIES),
    "tcn weight norm": Family(lambda: s.temporal(weight_norm=True), SERIES),
    "m5": Family(s.waveform, SOUND),
    "gru": Family(lambda: s.Recurrent(nn.GRU(6, 8, batch_first=True)), SERIES),
    "lstm both ways": Family(lambda: s.Recurrent(nn.LSTM(6, 8, 2, batch_first=True, bidirectional=True)), SERIES),
    "conv gru": Family(lambda: s.Recurrent(nn.GRU(16, 8, batch_first=True), convolved=True), SERIES),
    "conv gru state": Family(lambda: s.Recurrent(nn.GRU(16, 8, batch_first=True), convolved=True, last=True), SERIES),
    "conv lstm": Family(
        lambda: s.Recurrent(nn.LSTM(16, 8, batch_first=True, bidirectional=True), convolved=True), SERIES
    ),
    "gru cell": Family(s.Cell, SERIES),
    "mlp": Family(s.perceptron, TABLE),
    "mlp affine false": Family(lambda: s.perceptron(affine=False), TABLE),
    "mlp norm last": Family(lambda: s.perceptron(norm_last=True), TABLE),
    **{
        how: Family(partial(s.Gated, how), TABLE, {"wide": "depends on their number"} if "fixed" in how else {})
        for how in ("glu", "chunk", "split", "fixed split", "fixed slice")
    },
    "mlp mixer": Family(
        lambda: nn.Sequential(nn.Linear(6, 16), s.MixerBlock(10, 16), s.MixerBlock(10, 16), s.Mean(), nn.Linear(16, 5)),
        SERIES,
        {"0": "depends on their number"},
    ),
    "bert": tokens(s.SeparateBlock, s.SeparateBlock),
    "bert untold": tokens(lambda: s.SeparateBlock(told=False)),
    "gpt": tokens(s.FusedCausalBlock, s.FusedCausalBlock, pooled=False),
    "gpt tied": tokens(s.FusedCausalBlock, pooled=False, tied=True),
    "llama": tokens(s.RotaryBlock, s.RotaryBlock, pooled=False),
    "llama interleaved": tokens(lambda: s.RotaryBlock(interleaved=True), pooled=False),
    "rotary": tokens(lambda: s.RotaryBlock(key_heads=4)),
    "relative": tokens(s.RelativeBlock),
    "transformer": tokens(lambda: nn.TransformerEncoderLayer(24, 4, 40, dropout=0.0, batch_first=True)),
}

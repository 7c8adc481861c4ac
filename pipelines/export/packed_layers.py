"""Layers whose weights stay packed in few bits while the model runs, by operators of ONNX Runtime."""

from typing import Final

import torch
from torch import Tensor, nn

from paretta.pipelines.export.restored_weights import FIELDS, RESTORE_DOMAIN, packed_fields
from paretta.pipelines.export.stored_layers import StoredLayer, StoredWeight
from paretta.pipelines.quantization.fake_quantize import block_quantizer, weight_quantizer
from paretta.pipelines.quantization.weight_groups import packed_block

_DOMAIN: Final = "com.microsoft"
_FLOAT32, _INT8 = 1, 4  # MatMulNBits' `accuracy_level`: activations in float32, or in int8 block by block


def packs(layer: nn.Module) -> bool:
    """Return True for a layer that is to be delivered with a packed weight and can be.

    A linear layer can with at most 4 bits; an embedding with any. In ONNX Runtime 1.31.1 MatMulNBits with float
    activations takes 0.8 of the time of floats at batch 1 with 4 bits, 17 times that time with 8 and 25 times with 2;
    so fewer bits than 4 are widened to 4 while the file is loaded, and more compute in floats.
    """
    quantizer = weight_quantizer(layer)
    if quantizer is None or not quantizer.packed:
        return False
    return isinstance(layer, nn.Embedding) or quantizer.fits_packed


class PackedLinear(StoredLayer):
    """``y = x W^T + b`` by MatMulNBits, which dequantises blocks of the weight while it multiplies."""

    def __init__(self, layer: nn.Linear) -> None:
        """Read the weight from the trained layer."""
        super().__init__(layer)
        self.bias = layer.bias
        self.packed = _Packed(self.stored)
        rounding = block_quantizer(layer)
        assert rounding is None or rounding.block == self.packed.group
        self.level = _FLOAT32 if rounding is None else _INT8

    def forward(self, values: Tensor) -> Tensor:
        """Compute the layer."""
        rows, columns = self.stored.codes.shape
        packed = self.packed
        return torch.onnx.ops.symbolic(
            f"{_DOMAIN}::MatMulNBits",
            (values, packed.fields((rows, packed.blocks, -1)), packed.steps(), packed.zero_point, None, self.bias),
            {
                "K": columns,
                "N": rows,
                "bits": packed.bits,
                "block_size": packed.group,
                "accuracy_level": self.level,
            },
            dtype=torch.float32,
            shape=(*values.shape[:-1], rows),
            version=1,
        )


class PackedEmbedding(StoredLayer):
    """Rows of a table by GatherBlockQuantized, which dequantises those that are read."""

    def __init__(self, layer: nn.Embedding) -> None:
        """Read the table from the trained layer."""
        super().__init__(layer)
        self.packed = _Packed(self.stored)

    def forward(self, places: Tensor) -> Tensor:
        """Look up rows."""
        rows, columns = self.stored.codes.shape
        packed = self.packed
        return torch.onnx.ops.symbolic(
            f"{_DOMAIN}::GatherBlockQuantized",
            (packed.fields((rows, -1), columns), places, packed.steps(), packed.zero_point),
            {"bits": packed.bits, "block_size": packed.group, "gather_axis": 0, "quantize_axis": 1},
            dtype=torch.float32,
            shape=(*places.shape, columns),
            version=1,
        )


class _Packed(nn.Module):
    """The parts of a stored weight as both operators read them."""

    scale: Tensor
    zero_point: Tensor | None

    def __init__(self, stored: StoredWeight) -> None:
        """Bring steps and zero points to blocks."""
        super().__init__()
        rows, columns = stored.codes.shape
        self.stored, self.bits = stored, _field_bits(stored.codes)
        self.group = packed_block(columns, stored.group)  # without groups all blocks of a row have its step
        self.blocks = -(-columns // self.group)
        self.register_buffer("scale", stored.scale if stored.scale.dim() == 2 else stored.scale.reshape(-1, 1))
        packed = None
        if not stored.is_centred:
            zeros = stored.zero_point.reshape(len(self.scale), -1).expand(-1, self.blocks)
            even = -(-self.blocks * self.bits // 8) * 8 // self.bits
            packed = torch.from_numpy(packed_fields(zeros.long().numpy(), self.bits, even).copy())
        self.register_buffer("zero_point", None if packed is None else packed.expand(rows, -1))

    def steps(self) -> Tensor:
        """Return the steps of all blocks, [rows, blocks]."""
        shape = len(self.stored.codes), self.blocks
        return self.scale if self.scale.shape == shape else self.scale.expand(shape)

    def fields(self, shape: tuple[int, ...], columns: int | None = None) -> Tensor:
        """Return the codes packed into bytes of a shape, each row for whole blocks or for so many columns."""
        rows, per_byte = len(self.stored.codes), 8 // self.bits
        wanted = self.group * self.blocks if columns is None else -(-columns // per_byte) * per_byte
        whole = [*shape[:-1], rows * wanted // per_byte // torch.Size(shape[:-1]).numel()]
        return torch.onnx.ops.symbolic(
            f"{RESTORE_DOMAIN}::{FIELDS}",
            (self.stored.codes,),
            {"bits": self.bits, "columns": wanted, "shape": whole},
            dtype=torch.uint8,
            shape=whole,
            version=1,
        )


def _field_bits(codes: Tensor) -> int:
    """Return the width of the fields that hold the codes: 4 or 8."""
    low, high = int(codes.min()), int(codes.max())
    return 4 if low >= -8 and high < 8 else 8

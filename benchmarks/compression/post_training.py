"""ResNet-8 in few bits and channels without training: ``python -m benchmarks.compression.post_training FOLDER``.

FOLDER holds the MNIST files of ``examples/mnist/fetch.py``; a ResNet-8 is trained on them once and kept there. What
comes after sees 512 training images without labels. Accuracy is ONNX Runtime's on the delivered file, on test images.
"""

import argparse
import tempfile
import time
from copy import deepcopy
from pathlib import Path
from typing import cast

import numpy as np
import onnxruntime
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from paretta.pipelines.bench import Bench
from paretta.pipelines.export.to_onnx import to_bytes
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.stage import stage_of
from paretta.pipelines.task import Metric, Task
from paretta.search_spaces.canonical import Document

NUM_TRAIN, NUM_CALIBRATION, NUM_TEST, EPOCHS, BATCH = 15_000, 512, 5_000, 6, 128
TUNED: Document = {"rounding": "second_order", "bias_correction": True}
WAYS: dict[str, Document] = {
    "nearest": {},
    "second order, corrected biases": TUNED,
    "learned, corrected biases": {**TUNED, "rounding": "learned"},
}
PRUNE: Document = {"kind": "prune", "sparsity": 0.5, "importance": "l2", "round_to": 8}


class Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, made: int, read: int, stride: int) -> None:
        super().__init__()
        self.c1, self.b1 = nn.Conv2d(read, made, 3, stride, 1, bias=False), nn.BatchNorm2d(made)
        self.c2, self.b2 = nn.Conv2d(made, made, 3, 1, 1, bias=False), nn.BatchNorm2d(made)
        self.r1, self.r2 = nn.ReLU(), nn.ReLU()
        projection = nn.Sequential(nn.Conv2d(read, made, 1, stride, bias=False), nn.BatchNorm2d(made))
        self.short = nn.Identity() if read == made and stride == 1 else projection

    def forward(self, images: Tensor) -> Tensor:
        """Return the sum of both ways."""
        inner = self.b2(self.c2(self.r1(self.b1(self.c1(images)))))
        return cast(Tensor, self.r2(inner + self.short(images)))


class ResNet8(nn.Module):
    """The residual network of MLPerf Tiny on one channel, 78 k parameters."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(1, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.s1, self.s2 = Block(width, width, 1), Block(2 * width, width, 2)
        self.s3 = Block(4 * width, 2 * width, 2)
        self.pool, self.flat, self.fc = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Score the ten classes."""
        features = self.s3(self.s2(self.s1(self.relu(self.bn(self.stem(images))))))
        return cast(Tensor, self.fc(self.flat(self.pool(features))))


def read(folder: Path, split: str) -> tuple[Tensor, Tensor]:
    def array(name: str) -> np.ndarray:
        content = (folder / name).read_bytes()
        shape = np.frombuffer(content, ">i4", content[3], offset=4)
        return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(shape)

    pixels = array(f"{split}-images-idx3-ubyte").astype(np.float32)[:, np.newaxis] / 255
    return torch.from_numpy(pixels), torch.from_numpy(array(f"{split}-labels-idx1-ubyte").astype(np.int64))


def trained(folder: Path, images: Tensor, labels: Tensor) -> nn.Module:
    torch.manual_seed(0)
    model, kept = ResNet8(), folder / "resnet8.pt"
    if kept.is_file():
        model.load_state_dict(torch.load(kept, weights_only=True))
        return model.eval()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9, weight_decay=5e-4, nesterov=True)
    steps = len(labels) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, EPOCHS * steps)
    for _ in range(EPOCHS):
        for indices in torch.randperm(len(labels))[: steps * BATCH].split(BATCH):
            optimizer.zero_grad()
            functional.cross_entropy(model(images[indices]), labels[indices]).backward()
            optimizer.step()
            schedule.step()
    torch.save(model.state_dict(), kept)
    return model.eval()


class Samples(CalibrationDataReader):
    """The calibration images, as ONNX Runtime's quantiser reads them."""

    def __init__(self, images: Tensor) -> None:
        self.left = [{"input": batch.numpy()} for batch in images.split(64)]

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch."""
        return self.left.pop(0) if self.left else None


class Comparison:
    """What every way of compressing is given, and how its result is read."""

    def __init__(self, folder: Path) -> None:
        images, labels = read(folder, "train")
        test, answers = read(folder, "t10k")
        self.test, self.answers = test[:NUM_TEST], answers[:NUM_TEST]
        train = TensorDataset(images[:NUM_TRAIN], labels[:NUM_TRAIN])
        self.samples = images[:NUM_CALIBRATION]
        self.model = trained(folder, *train.tensors)
        held = TensorDataset(self.test, self.answers)
        self.task = Task(
            self.model, train, held, held, functional.cross_entropy, {"accuracy": Metric(correct)}, images[:1],
            calibration=TensorDataset(self.samples),
        )  # fmt: skip

    def made(self, *stages: Document) -> nn.Module:
        """Return the trained model after the stages."""
        model = deepcopy(self.model)
        for document in stages:
            stage = stage_of(document)
            model = stage.apply(model, Bench(self.task, Ranks.alone(), seed=1, stage=stage.kind)).eval()
        return model

    def told(self, words: str, *stages: Document) -> None:
        """Print what the stages make."""
        begun = time.process_time()
        content = to_bytes(self.made(*stages), self.task.example_input)
        self.tell(words, content, time.process_time() - begun)

    def tell(self, words: str, content: bytes, seconds: float) -> None:
        """Print accuracy and size of a file."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        answers = [session.run(None, {"input": batch.numpy()})[0].argmax(1) for batch in self.test.split(500)]
        accuracy = 100 * float((np.concatenate(answers) == self.answers.numpy()).mean())
        print(f"{words}: {accuracy:.2f} %, {len(content):,} B, {seconds:.0f} CPU s", flush=True)

    def runtimes_own(self, bits: int) -> None:
        """Quantise the float file with ONNX Runtime's static quantiser, weights per channel."""
        kind = {8: QuantType.QInt8, 4: QuantType.QInt4}[bits]
        with tempfile.TemporaryDirectory() as scratch:
            source, target = Path(scratch) / "float.onnx", Path(scratch) / "int.onnx"
            source.write_bytes(to_bytes(self.model, self.task.example_input))
            begun = time.process_time()
            quantize_static(
                source, target, Samples(self.samples), quant_format=QuantFormat.QDQ, per_channel=True,
                activation_type=QuantType.QUInt8, weight_type=kind,
            )  # fmt: skip
            self.tell(f"{bits} bits, ONNX Runtime's static quantiser", target.read_bytes(), time.process_time() - begun)


def correct(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(1) == targets).float()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="with the MNIST files")
    parser.add_argument("--bits", type=int, nargs="*", default=[4, 2, 3, 8], help="widths of weights, in this order")
    parser.add_argument("--ways", nargs="*", choices=list(WAYS), default=list(WAYS), help="how weights are rounded")
    parser.add_argument("--only", choices=["rounding", "pruning"], help="by default both")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    comparison = Comparison(arguments.folder)
    comparison.told("float")
    for bits in arguments.bits if arguments.only != "pruning" else []:
        for words in arguments.ways:
            comparison.told(f"{bits} bits, {words}", {"kind": "quantize", "bits": bits, **WAYS[words]})
        if bits in {4, 8} and "nearest" in arguments.ways:
            comparison.runtimes_own(bits)
    if arguments.only == "rounding":
        return
    comparison.told("half of the channels", PRUNE)
    comparison.told("half of the channels, recalibrated", PRUNE, {"kind": "recalibrate_norms", "num_samples": 512})
    comparison.told("half of the channels, repaired by least squares", {**PRUNE, "repair": "least_squares"})


if __name__ == "__main__":
    main()

"""What the price of a bit does to the digits model: its bytes and accuracy by the strength of `bit_penalty`.

    python -m benchmarks.compression.price_of_bits [--seeds 0 1 2] [--strengths 0 0.03 0.3]

The model is trained, quantised to 4 bits with one step a layer, and trained on with each strength; 0 is without the
tweak. `reckoned` is the length of the codes that the training ended with, `codes` what the coded file takes for them.
Accuracy is the torch model's on the validation split of 359 images, in percent.
"""

import argparse
import statistics
from copy import deepcopy

from torch import nn

from paretta.pipelines.bench import Bench, derived_seed, seeded
from paretta.pipelines.coding.container import encode_model
from paretta.pipelines.export.to_onnx import to_bytes
from paretta.pipelines.quantization.code_length import code_bits
from paretta.pipelines.quantization.fake_quantize import unrounded_codes, weight_quantizer
from paretta.pipelines.ranks import Ranks, use_threads
from paretta.pipelines.stage import stage_of
from paretta.pipelines.task import Task
from paretta.pipelines.tasks.digits import make
from paretta.pipelines.training.evaluate import scores
from paretta.search_spaces.canonical import Document

TRAIN: Document = {"kind": "train", "epochs": 12, "lr": 0.003, "batch_size": 64}
QUANTIZE: Document = {"kind": "quantize", "bits": 4, "granularity": "tensor"}
COLUMNS = ("accuracy", "reckoned B", "codes B", "coded B")


def paying(strength: float) -> Document:
    """Return the training that pays for bits."""
    tweaks: list[Document] = [{"kind": "bit_penalty", "strength": strength}] if strength else []
    return {**TRAIN, "epochs": 6, "tweaks": tweaks}


def applied(model: nn.Module, stages: list[Document], task: Task, seed: int) -> nn.Module:
    """Return a copy of the model after the stages."""
    model = deepcopy(model)
    for place, stage in enumerate(stages):
        own = derived_seed(seed, f"{place} {stage['kind']}")
        with seeded(own):
            model = stage_of(stage).apply(model, Bench(task, Ranks.alone(), own))
    return model.eval()


def untrained(task: Task, seed: int) -> nn.Module:
    """Return the seed's network."""
    with seeded(derived_seed(seed, "model")):
        return task.new_model()


def row(model: nn.Module, task: Task) -> tuple[float, ...]:
    """Return the figures of one model, in the order of `COLUMNS`."""
    layers = [module for module in model.modules() if weight_quantizer(module) is not None]
    reckoned = sum(float(code_bits(unrounded_codes(layer).detach().flatten(1))) / 8 for layer in layers)
    coded = encode_model(to_bytes(model, task.example_input, task.free_axes))
    accuracy = 100 * scores(model, task, Ranks.alone())["accuracy"]
    return accuracy, reckoned, coded.parts["codes"], float(len(coded.content))


def main() -> None:
    """Print the mean over the seeds for each strength."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.0, 0.01, 0.03, 0.1, 0.3, 1.0])
    arguments = parser.parse_args()
    use_threads(1)
    task = make()
    trained = {seed: applied(untrained(task, seed), [TRAIN], task, seed) for seed in arguments.seeds}
    print(f"{'strength':>8}" + "".join(f"{column:>12}" for column in COLUMNS), flush=True)
    for strength in arguments.strengths:
        stages = [QUANTIZE, paying(strength)]
        rows = [row(applied(model, stages, task, seed), task) for seed, model in trained.items()]
        means = (statistics.mean(values) for values in zip(*rows, strict=True))
        print(f"{strength:8g}" + "".join(f"{mean:12.1f}" for mean in means), flush=True)


if __name__ == "__main__":
    main()

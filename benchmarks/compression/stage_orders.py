"""Which order of pruning, training and quantising loses least: ``python -m benchmarks.compression.stage_orders``.

Every order has the same settings and as many epochs of training in all, on the digits, from the same three trained
models. Accuracy is the torch model's on the test split of 360 images, as mean over the seeds.
"""

import statistics
from copy import deepcopy

import torch
from torch import nn

from paretta.pipelines.bench import Bench, derived_seed, seeded
from paretta.pipelines.data.samples import take
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.stage import stage_of
from paretta.pipelines.task import Task
from paretta.pipelines.tasks.digits import make
from paretta.search_spaces.canonical import Document

SEEDS, EPOCHS = 3, 6
TRAIN: Document = {"kind": "train", "epochs": 12, "lr": 0.003, "batch_size": 64}


def distill(epochs: int) -> Document:
    return {"kind": "distill", "epochs": epochs, "lr": 0.003, "batch_size": 64}


def orders(sparsity: float, bits: int) -> dict[str, list[Document]]:
    prune: Document = {"kind": "prune", "sparsity": sparsity, "importance": "l2", "round_to": 8}
    quantize: Document = {"kind": "quantize", "bits": bits}
    half = EPOCHS // 2
    return {
        "prune, quantize": [prune, quantize],
        "prune, quantize, distill": [prune, quantize, distill(EPOCHS)],
        "prune, distill, quantize": [prune, distill(EPOCHS), quantize],
        "prune, distill, quantize, distill": [prune, distill(half), quantize, distill(EPOCHS - half)],
    }


def accuracy(stages: list[Document], base: nn.Module, task: Task, seed: int) -> float:
    model, teacher = deepcopy(base), deepcopy(base).requires_grad_(False)
    for index, document in enumerate(stages):
        stage, own = stage_of(document), derived_seed(seed, str(index))
        bench = Bench(task, Ranks.alone(), seed=own, teacher=teacher, teacher_key=str(seed), stage=stage.kind)
        with seeded(own):
            model = stage.apply(model, bench).eval()
    inputs, labels = take(task.test, torch.arange(360))
    with torch.no_grad():
        return 100 * float((model(inputs).argmax(1) == labels).float().mean())


def main() -> None:
    torch.set_num_threads(1)
    task = make()
    bases = []
    for seed in range(SEEDS):
        with seeded(seed):
            bases.append(stage_of(TRAIN).apply(task.new_model(), Bench(task, Ranks.alone(), seed=seed)).eval())
    for sparsity in (0.5, 0.75):
        for bits in (8, 4, 2):
            print(f"{sparsity:.0%} of channels, {bits} bits")
            for words, stages in orders(sparsity, bits).items():
                found = [accuracy(stages, base, task, seed) for seed, base in enumerate(bases)]
                each = ", ".join(f"{value:.1f}" for value in found)
                print(f"  {words}: {statistics.mean(found):.1f} % ({each})", flush=True)


if __name__ == "__main__":
    main()

"""Writes docs/methods: a page for each family of methods, with formulas and sources from the code, and their effect.

The effects are what `python -m benchmarks.methods` measured on the digits model.
"""

import inspect
import json
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paretta.orchestrator.config.catalogue import REGISTRIES

FOLDER = Path(__file__).with_name("methods")
EFFECTS: dict[str, Any] = json.loads(Path(__file__).with_name("effects.json").read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class Family:
    """Methods that belong together.

    Args:
        name: of the page.
        title: its heading.
        good_for: when to use them.
        costs: what they take.
        stages: the stages of this family.
        nouns: the registries whose entries the stages may name.
    """

    name: str
    title: str
    good_for: str
    costs: str
    stages: tuple[str, ...]
    nouns: tuple[str, ...] = ()


FAMILIES = (
    Family(
        "quantize",
        "Quantise",
        "Bytes on any model: 4 times fewer at 8 bits, more below. Time where convolutions and linear layers are large: "
        "they run in integer kernels, 8 bits wide whatever the weights have. On tiny layers the conversions between "
        "floats and integers cost more than they save; `latency` says which it is.",
        "Calibration takes one pass over some training samples. Below 4 bits it wants training afterwards. Widths that "
        "are found cost a pass per sample (`fisher`), per probe (`hessian`) or per layer and width (`kl`).",
        ("quantize",),
        ("quantizers", "sensitivities"),
    ),
    Family(
        "share",
        "Share values",
        "Bytes alone: places in a table of few values take fewer bits than the values. It computes as fast as before. "
        "Followed by `quantize` at `granularity: tensor` it runs in integers as well.",
        "A sort of each layer's weights; with few values it wants training afterwards, which moves the values.",
        ("cluster",),
    ),
    Family(
        "prune",
        "Prune",
        "`prune` and `iterate` remove channels, neurons and heads: bytes and time, on any runtime. `sparsify` puts "
        "single weights to zero, which saves bytes in the coded file (`coded_size`) and nothing else: no runtime we "
        "measure skips zeros, so neither `latency` nor `size` gains by it.",
        "Scores by weights are free; those by gradients or activity take a pass over some training samples. Training "
        "afterwards is part of it.",
        ("prune", "iterate", "sparsify"),
        ("importances",),
    ),
    Family(
        "distill",
        "Distil and transfer",
        "Accuracy at a size that is given: a small model learns more from a teacher's answers, or begins with what "
        "another model has learned.",
        "One pass of the teacher over the training data, kept for all trials; then epochs cost the same.",
        ("distill", "student", "transfer"),
    ),
    Family(
        "train",
        "Train",
        "What every method above needs to win its accuracy back. Tweaks act while it trains.",
        "The bulk of a trial's time; `train_cost` reads it.",
        ("train", "swap_activation", "fold_norms", "recalibrate_norms"),
        ("tweaks",),
    ),
)


def method_pages() -> dict[Path, str]:
    """Return every page by its path."""
    return {FOLDER / f"{family.name}.md": "\n".join([*_page(family), ""]) for family in FAMILIES}


def _page(family: Family) -> Iterator[str]:
    yield f"# {family.title}"
    yield ""
    yield "Written by `make docs` from the code; settings are in the [reference](../reference.md)."
    yield from ("", f"**Good for.** {family.good_for}", "", f"**Costs.** {family.costs}")
    yield from ("", f"**Measured effects.** {_conditions()}")
    for name in family.stages:
        yield from ("", f"## Stage `{name}`", "", f"{REGISTRIES['stages'].describe(name)}")
        yield from _text(REGISTRIES["stages"].load(name))
        yield from _effect(f"stages/{name}")
    for noun in family.nouns:
        yield from ("", f"## {noun.capitalize()}")
        for name in REGISTRIES[noun].names():
            yield from ("", f"### `{name}`", "", REGISTRIES[noun].describe(name))
            yield from _text(REGISTRIES[noun].load(name))
            yield from _effect(f"{noun}/{name}")


def _conditions() -> str:
    baseline = EFFECTS["effects"]["baseline"][0]
    return (
        f"On the digits model, whose baseline has {_accuracy(baseline)} on the test split, by "
        f"`{EFFECTS['command']}` on {EFFECTS['date']}: accuracy as mean and standard deviation over "
        f"{len(EFFECTS['seeds'])} seeds, latency with half of its 95 % interval. The test split has 360 images, so "
        "differences under a point say little; sizes and times are of a model of 144 kB, where fixed costs weigh much."
    )


def _effect(method: str) -> Iterator[str]:
    """Yield the table of what a method did, or that it was not measured."""
    effects = EFFECTS["effects"].get(method)
    if effects is None:
        yield from ("", "Its effect on the digits model was not measured.")
        return
    yield from ("", "| plan, after the baseline | accuracy | size | coded size | latency | training, CPU s |")
    yield "|---|---|---|---|---|---|"
    for effect in effects:
        latency = f"{effect['latency']:.2f} ±{(effect['high'] - effect['low']) / 2:.2f}x"
        ratios = f"{effect['size']:.3f}x | {effect['coded_size']:.3f}x | {latency}"
        yield f"| {effect['words']} | {_accuracy(effect)} | {ratios} | {effect['cpu_seconds']:.1f} |"


def _accuracy(effect: Mapping[str, Any]) -> str:
    accuracies = effect["accuracies"]
    return f"{statistics.mean(accuracies):.1f} ±{statistics.stdev(accuracies):.1f} %"


def _text(thing: Any) -> Iterator[str]:
    """Yield the docstrings of a class and of the public functions beside it: formula and source are in one of them."""
    module = inspect.getmodule(thing)
    functions = [
        function
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == getattr(module, "__name__", "") and not name.startswith("_")
    ]
    documented = [inspect.getdoc(thing), *(inspect.getdoc(function) for function in functions)]
    yield from ("", "```text")
    yield "\n\n".join(text.partition("\n\n>>>")[0] for text in documented if text)
    yield "```"

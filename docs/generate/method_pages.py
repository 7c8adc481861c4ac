"""Generates docs/methods: a page per family of methods, with formulas and sources from the code and measured effects.

The effects were measured by `python -m benchmarks.compression.methods` on the digits model.
"""

import inspect
import json
import re
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paretta.orchestrator.config.catalogue import REGISTRIES
from paretta.pipelines.post_training.equalize import equalized, smoothed
from paretta.pipelines.post_training.layer_objective import LayerObjective
from paretta.pipelines.post_training.learned_rounding import learned_rounding
from paretta.pipelines.post_training.reconstruct import reconstruct
from paretta.pipelines.post_training.second_order import descended, second_order
from paretta.pipelines.quantizers import Quantizer

FOLDER = Path(__file__).parents[1] / "methods"
EFFECTS: dict[str, Any] = json.loads(Path(__file__).with_name("effects.json").read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class Family:
    """Methods that are described on one page.

    Args:
        name: name of the page.
        title: heading of the page.
        good_for: when to use the methods.
        costs: what they cost.
        stages: the stages of this family.
        nouns: the registries with the extensions that these stages use.
        settings: settings of the stages, in words, each with the code that has formula and source.
    """

    name: str
    title: str
    good_for: str
    costs: str
    stages: tuple[str, ...]
    nouns: tuple[str, ...] = ()
    settings: tuple[tuple[str, tuple[Callable[..., Any], ...]], ...] = ()


FAMILIES = (
    Family(
        "quantize",
        "Quantise",
        "Bytes on any model: 4 times fewer at 8 bits, more below. Time where convolutions and linear layers are large: "
        "they run in integer kernels, which compute with 8 bits even if the weights have fewer. In tiny layers the "
        "conversions between floats and integers cost more than they save; `latency` shows which is the case.",
        "Calibration takes one pass over some training samples. Below 4 bits, train afterwards, or round by second "
        "order with corrected biases: a pass for each layer over unlabelled samples. After `prune`, train first. "
        "Automatic bit widths cost a pass per sample (`fisher`), per probe (`hessian`) or per layer and width (`kl`).",
        ("quantize", "equalize"),
        ("quantizers", "sensitivities"),
        (
            ("`weight_range`, `activation_range`", (Quantizer.covered,)),
            (
                "`rounding: second_order`, `rounding: learned`",
                (LayerObjective, second_order, descended, learned_rounding),
            ),
            ("`equalize.method`", (equalized, smoothed)),
            ("`bias_correction: true`", (LayerObjective.bias_for,)),
        ),
    ),
    Family(
        "share",
        "Share values",
        "Bytes only: indices into a table of a few values take fewer bits than the values. Latency stays the same. "
        "Followed by `quantize` with `granularity: tensor`, it runs in integers as well.",
        "A sort of each layer's weights; with few values, train afterwards, which adjusts the values.",
        ("cluster",),
    ),
    Family(
        "prune",
        "Prune",
        "`prune` and `iterate` remove channels, neurons and heads: bytes and time, on any runtime. `sparsify` sets "
        "single weights to zero, which only saves bytes in the coded file (`coded_size`): no runtime that we measure "
        "skips zeros, so neither `latency` nor `size` improves.",
        "Scores from weights are free; those from gradients or activity take a pass over some training samples. Plan "
        "for training afterwards, or repair by least squares: a pass over unlabelled samples for each layer.",
        ("prune", "iterate", "sparsify"),
        ("importances",),
        (("`prune.repair: least_squares`", (reconstruct,)),),
    ),
    Family(
        "distill",
        "Distil and transfer",
        "Accuracy at a given size: a small model learns more from a teacher's outputs than from labels, or starts "
        "from the parameters of another model.",
        "One pass of the teacher over the training data, cached for all trials; then epochs cost as much as without.",
        ("distill", "student", "transfer"),
    ),
    Family(
        "train",
        "Train",
        "Restoring the accuracy after any of the other methods. Tweaks change how a training behaves.",
        "Most of a trial's time; `train_cost` measures it.",
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
    yield "Generated from the code by `make docs`; settings are in the [reference](../reference/sweep-file.md)."
    yield from ("", f"**Good for.** {family.good_for}", "", f"**Costs.** {family.costs}")
    yield from ("", f"**Measured effects.** {_conditions()}")
    for name in family.stages:
        yield from ("", f"## Stage `{name}`", "", f"{REGISTRIES['stages'].describe(name)}")
        yield from _text(REGISTRIES["stages"].load(name))
        yield from _effect(f"stages/{name}")
    for words, sources in family.settings:
        yield from ("", f"## Setting {words}", "", "```text")
        yield "\n\n".join((inspect.getdoc(source) or "").partition("\n\n>>>")[0] for source in sources)
        yield "```"
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
        f"`{EFFECTS['command']}` {_origin(baseline)}, where a table tells nothing else: accuracy as mean and standard "
        f"deviation over {len(EFFECTS['seeds'])} seeds, latency with half of its 95 % interval. The test split has "
        "360 images, so differences below one point mean little; the model has only 144 kB, so fixed costs dominate "
        "sizes and times."
    )


def _effect(method: str) -> Iterator[str]:
    """Yield the table of a method's measured effects, or a sentence that they were not measured."""
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
    common = _origin(EFFECTS["effects"]["baseline"][0])
    for origin in dict.fromkeys(_origin(effect) for effect in effects):
        if origin != common:
            yield from ("", f"Measured {origin}, against a baseline of that day.")


def _origin(effect: Mapping[str, Any]) -> str:
    """Say when and on what an effect was measured."""
    return f"on {effect['date']}, on {effect['cpu'] or 'a processor that was not noted'}"


def _accuracy(effect: Mapping[str, Any]) -> str:
    accuracies = effect["accuracies"]
    return f"{statistics.mean(accuracies):.1f} ±{statistics.stdev(accuracies):.1f} %"


def _text(thing: Any) -> Iterator[str]:
    """Yield the docstrings of a class and of its module's public functions, which contain formula and source."""
    module = inspect.getmodule(thing)
    functions = [
        function
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == getattr(module, "__name__", "") and not name.startswith("_")
    ]
    documented = [inspect.getdoc(thing), *(inspect.getdoc(function) for function in functions)]
    yield from ("", "```text")
    yield "\n\n".join(_for_users(text) for text in documented if text)
    yield "```"


def _for_users(docstring: str) -> str:
    """Leave out the examples, and what a function raises: `check` tells users."""
    return re.split(r"\n\n(?:>>>|Raises:)", docstring)[0]

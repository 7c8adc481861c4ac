"""Say in a few lines where layers do not get the bits or the integer kernel that were asked for them."""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from paretta.pipelines.kernels.float_operators import words_of
from paretta.pipelines.quantization.layer_facts import LayerFacts

_NAMED: Final = 3  # layers of a group that are named
_MUCH: Final = 1.25  # times the bits asked; what unpacks them is a few bytes a layer


def asked_and_got(layers: Mapping[str, LayerFacts], between: Mapping[str, int]) -> tuple[str, ...]:
    """Return a line for each group of layers with the same difference, and one for floats between integer layers.

    Args:
        layers: facts of a model's layers as ONNX Runtime runs them, by name.
        between: float operators between two integer layers, see `floats_between`.

    >>> facts = {"fc": LayerFacts((4, 8), 4, 0.0, "its input is not quantized", 4, 4.0, "Gemm")}
    >>> asked_and_got(facts, {"Softmax": 2})
    ('fc: 4 bits asked, 4 stored, Gemm: its input is not quantized', 'between integer layers in floats: 2 Softmax')
    >>> asked_and_got({"fc": LayerFacts((4, 8), 4, 0.0, None, 4, 4.0, "QGemm")}, {})
    ()
    """
    groups: dict[str, list[str]] = {}
    for name, facts in layers.items():
        if facts.asked is not None and (facts.in_floats or _is_large(facts)):
            groups.setdefault(_words(facts), []).append(name)
    lines = [f"{_listed(names)}: {words}" for words, names in groups.items()]
    return (*lines, *([f"between integer layers in floats: {words_of(Counter(between))}"] if between else []))


def _is_large(facts: LayerFacts) -> bool:
    return facts.stored is not None and facts.asked is not None and facts.stored > _MUCH * facts.asked


def _words(facts: LayerFacts) -> str:
    stored = "" if facts.stored is None else f", {facts.stored:.3g} stored"
    kernel = "" if facts.kernel is None else f", {facts.kernel}"
    groups = "" if facts.group is None else f" in groups of {facts.group}"
    return f"{facts.asked} bits{groups} asked{stored}{kernel}{f': {facts.in_floats}' if facts.in_floats else ''}"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more

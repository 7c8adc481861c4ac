"""Share weight values: every weight of a layer is one of a few centroids, which later training moves."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self, cast

import torch
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor, nn

from paretta.pipelines.bench import Bench
from paretta.pipelines.data.trees import moved
from paretta.pipelines.model.attention import unfold_attention
from paretta.pipelines.model.name_patterns import by_pattern
from paretta.pipelines.model.quantizable import survey
from paretta.pipelines.model.recurrent import unfold_recurrent
from paretta.pipelines.post_training.norm_statistics import NUM_SAMPLES, refresh
from paretta.pipelines.quantization.layer_graph import fold_batch_norms
from paretta.pipelines.quantization.weight_sharing import attach_shared_values, centroids_of, nearest_places
from paretta.pipelines.stage import Norms, Shape, Stage
from paretta.search_spaces.errors import Problem, WrongInput
from paretta.search_spaces.results.note import Note

_RULE = "must be a whole number from 2 to 256"


def _numbers(value: object) -> object:
    if isinstance(value, Mapping):
        if not value:
            raise ValueError("needs at least one pattern")
        return {str(pattern): _number(number) for pattern, number in value.items()}
    return _number(value)


def _number(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 2 <= value <= 256:
        raise ValueError(_RULE)
    return value


Numbers = Annotated[int | dict[str, int], BeforeValidator(_numbers)]


class Cluster(Stage):
    """Fold batch norms and replace every weight by the nearest of `values` centroids, one of which is zero.

    The centroids minimise the squared error (k-means, Lloyd, 1982), starting evenly spaced over the range, which
    preserves large weights (Han et al., "Deep compression", 2016). From then on each weight keeps its centroid; a
    `train` or `distill` stage moves the centroids, each by the sum of its weights' gradients. Zeros stay zeros, so
    masks are kept.

    The file stores a layer as a table and an index for each weight, in ``log2(values)`` bits or fewer. Without further
    stages the layer computes in floats, as fast as before: sharing values only saves bytes. With `quantize` after it,
    at ``granularity: tensor``, centroids become 8-bit codes and the layer computes in integers.
    """

    kind: Literal["cluster"] = "cluster"
    values: Numbers = Field(
        default=16,
        description="2..256 different values for all layers, or {name pattern: values} such as {'conv*': 64, '*': 16}, "
        "first match wins",
    )
    scope: Literal["layer", "global"] = Field(default="layer", description="layer (a table for each) or global (one)")

    @model_validator(mode="after")
    def _one_number(self) -> Self:
        if self.scope == "global" and not isinstance(self.values, int):
            raise ValueError("scope global needs one number of values; set `scope` to layer or `values` to a number")
        return self

    def apply(self, model: nn.Module, bench: Bench) -> nn.Module:
        """Return `model` with shared values, equal on all ranks.

        Raises:
            WrongInput: a pattern matches no layer, or no layer can share values.
        """
        device = bench.ranks.device
        model.to(device).eval()
        refresh(model, bench, num_samples=NUM_SAMPLES)
        fold_batch_norms(model, moved(bench.task.example_input, device))
        unfold_recurrent(unfold_attention(model))
        chosen = self._chosen(model, bench)
        weights = {name: cast(Tensor, model.get_submodule(name).weight).detach() for name in chosen}
        tables = self._tables(weights, chosen, bench)
        for name, table in tables.items():
            places = bench.ranks.broadcast(nearest_places(weights[name], table.detach()))
            attach_shared_values(model.get_submodule(name), places, table)
        return model

    def conflict(self, earlier: Sequence[Stage], *, in_baseline: bool) -> str | None:
        """Report a `cluster` stage after quantization: centroids must come before the grid."""
        if fitted := [stage.kind for stage in earlier if stage.calibrates]:
            return f"would take weights off the grid of `{fitted[0]}`; put `cluster` before it"
        return None

    @property
    def holds_values(self) -> bool:
        """Weights keep their centroids."""
        return True

    @property
    def shape(self) -> Shape:
        """The structure is unchanged; the size depends on the values."""
        return "stored by value"

    @property
    def norms(self) -> Norms:
        """Folded norms have current statistics."""
        return "fresh"

    def words(self) -> str:
        """Describe the stage, such as ``share 16 values``."""
        of = " over all layers" if self.scope == "global" else ""
        if isinstance(self.values, int):
            return f"share {self.values} values{of}"
        return "share " + ", ".join(f"{values} values of {pattern}" for pattern, values in self.values.items())

    def _chosen(self, model: nn.Module, bench: Bench) -> dict[str, int]:
        """Return how many values each layer may have; name the layers that keep theirs."""
        verdicts = dict(survey(model, moved(bench.task.example_input, bench.ranks.device)))
        patterns = {"*": self.values} if isinstance(self.values, int) else self.values
        wanted = by_pattern(patterns, verdicts, "cluster.values")
        for name in wanted:
            if verdicts[name] is not None:
                bench.note(Note(self.kind, f"shares no values: {verdicts[name]}", (name,)))
        chosen = {name: values for name, values in wanted.items() if verdicts[name] is None}
        if not chosen:
            raise WrongInput(Problem("cluster.values", "no layer of the model can share values", self.values))
        return chosen

    def _tables(
        self, weights: Mapping[str, Tensor], chosen: Mapping[str, int], bench: Bench
    ) -> dict[str, nn.Parameter]:
        """Return the centroids of each layer; under scope ``global`` all layers have the same."""

        def table(values: Tensor, number: int) -> nn.Parameter:
            # rank 0 decides: a rounding difference between machines must not make the ranks differ
            padded = values.new_zeros(number)
            found = centroids_of(values, number)
            padded[: len(found)] = found
            padded = bench.ranks.broadcast(padded)
            return nn.Parameter(padded[padded != 0])

        if self.scope == "global":
            together = torch.cat([weight.flatten() for weight in weights.values()])
            return dict.fromkeys(weights, table(together, next(iter(chosen.values()))))
        return {name: table(weight, chosen[name]) for name, weight in weights.items()}

"""Copy parameters from another model, or restart from a model's structure alone."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from paretta.pipelines.bench import Bench, seeded
from paretta.pipelines.model.name_patterns import by_pattern
from paretta.pipelines.model.pretrained import Source, matching, source_parameters
from paretta.pipelines.model.torch_private import reset_of
from paretta.pipelines.stage import Shape, Stage
from paretta.search_spaces.errors import Problem, WrongInput

_log = logging.getLogger("paretta")


class Transfer(Stage):
    """Copy parameters of equal name and shape from the baseline or a file; the others keep their values.

    With ``parameters: none`` only the structure is kept and every layer is initialised at random (He et al., 2019,
    "Rethinking ImageNet pre-training", examine how much that loses). To stay near the source while training, add the
    tweak `l2_sp`; to train on its data as well, add `replay`.
    """

    kind: Literal["transfer"] = "transfer"
    source: Source = Field(default="baseline", description="baseline, or the absolute path of a .safetensors file")
    parameters: Literal["matching", "none"] = Field(
        default="matching", description="matching (copy what fits) or none (start anew with this structure)"
    )
    layers: str = Field(default="*", description="which parameters to copy, a name pattern such as 'conv*'")

    def apply(self, model: nn.Module, bench: Bench) -> nn.Module:
        """Return `model` with the source's values.

        Raises:
            WrongInput: the source cannot be read or has no matching parameter.
        """
        if self.parameters == "none":
            with seeded(bench.seed):
                _start_anew(model)
            return model.eval()
        model.to(bench.ranks.device)
        source = source_parameters(self.source, bench, "transfer.source")
        pairs = matching(model, source)
        if not pairs:
            rule = "no parameter of the model has its name and shape in the source"
            raise WrongInput(Problem("transfer.source", rule, ", ".join(sorted(source)[:8]), "compare the names"))
        chosen = by_pattern({self.layers: True}, pairs, "transfer.layers")
        with torch.no_grad():
            for name in chosen:
                parameter, values = pairs[name]
                parameter.copy_(values)
            _copy_buffers(model, source, chosen)
        _log.info("transfer: %d of %d parameters", len(chosen), len(list(model.parameters())))
        return model.eval()

    def conflict(self, earlier: Sequence[Stage], *, in_baseline: bool) -> str | None:
        """Report a `transfer` from the baseline in the baseline, or after a stage whose result it would overwrite."""
        if in_baseline and self.source == "baseline" and self.parameters == "matching":
            return "the baseline cannot be its own source; move it to the stages after it, or name a file"
        holders = [stage.kind for stage in earlier if stage.holds_values]
        if self.parameters == "none" and holders:
            return f"would throw away what `{holders[0]}` chose by value; put `transfer` before it"
        return None

    @property
    def shape(self) -> Shape:
        """Only values change."""
        return "kept"

    def words(self) -> str:
        """Describe the stage: the source."""
        if self.parameters == "none":
            return "start anew with this structure"
        return f"transfer {self.layers} from {self.source}"


def _start_anew(model: nn.Module) -> None:
    for module in model.modules():
        reset = reset_of(module)
        if reset is not None:
            reset()


def _copy_buffers(model: nn.Module, source: Mapping[str, Tensor], chosen: Iterable[str]) -> None:
    """Copy the running statistics of the norms whose parameters were copied."""
    owners = {name.rpartition(".")[0] for name in chosen}
    for name, buffer in model.named_buffers():
        values = source.get(name)
        if name.rpartition(".")[0] in owners and values is not None and values.shape == buffer.shape:
            buffer.copy_(values)

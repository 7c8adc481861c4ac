"""Load parameters to transfer by name, from the baseline or a .safetensors file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from paretta.pipelines.bench import Bench
from paretta.pipelines.model.weights import plain_name
from paretta.search_spaces.errors import Problem, WrongInput

BASELINE = "baseline"


def _source(value: str) -> str:
    if value == BASELINE:
        return value
    if not (value.endswith(".safetensors") and Path(value).is_absolute()):
        raise ValueError("must be `baseline`, or the absolute path of a .safetensors file that all workers can read")
    if not Path(value).is_file():
        raise ValueError("names a file that does not exist")
    return value


Source = Annotated[str, AfterValidator(_source)]


def source_parameters(source: str, bench: Bench, where: str) -> Mapping[str, Tensor]:
    """Return parameters and buffers of `source` by name, on the CPU.

    Raises:
        WrongInput: the file cannot be read, or there is no baseline yet.
    """
    if source != BASELINE:
        try:
            return load_file(source)
        except (SafetensorError, OSError) as error:
            raise WrongInput(Problem(where, f"cannot be read: {error}", source)) from error
    if bench.teacher is None:
        hint = "move it from `baseline` to the stages after it, or name a file"
        raise WrongInput(Problem(where, "the baseline cannot be its own source", None, hint))
    return {plain_name(name): tensor.detach().cpu() for name, tensor in bench.teacher.state_dict().items()}


def matching(model: nn.Module, source: Mapping[str, Tensor]) -> dict[str, tuple[nn.Parameter, Tensor]]:
    """Return the model's parameters by plain name, each with the source's parameter of equal name and shape."""
    return {
        plain_name(name): (parameter, source[plain_name(name)])
        for name, parameter in model.named_parameters()
        if plain_name(name) in source and source[plain_name(name)].shape == parameter.shape
    }

"""A model of transformers made ready for compression, and the files that are delivered beside it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import torch
from torch import nn

from paretta.pipelines.integrations.optional import optional
from paretta.search_spaces.errors import Problem, WrongInput

ModelSource: TypeAlias = "str | Path | nn.Module | Callable[[], nn.Module]"


def library() -> Any:
    """Return the module ``transformers``. Raises `WrongInput` if it is not installed."""
    return optional("transformers", extra="transformers")


def prepared(source: ModelSource, auto_class: str) -> nn.Module | Callable[[], nn.Module]:
    """Return a model, or a function that makes one, for `Task.model`; see `as_plain_model`.

    Args:
        source: a folder that ``save_pretrained`` wrote, or a name that ``from_pretrained`` knows; a model; or a
            function that returns an untrained one.
        auto_class: loads a folder, such as ``AutoModelForSequenceClassification``.

    Raises:
        WrongInput: there is no such model, or it is not one of transformers.
    """
    if isinstance(source, str | Path):
        loader = getattr(library(), auto_class)
        return as_plain_model(_loaded(loader, source, "model", "name a folder that save_pretrained wrote"))
    if isinstance(source, nn.Module):
        return as_plain_model(deepcopy(source))
    if not callable(source):
        rule = "must be a folder, a model of transformers, or a function that returns one"
        raise WrongInput(Problem("model", rule, type(source).__name__))
    return wraps(source)(lambda: as_plain_model(source()))  # with its module, whose code identifies the task


def as_plain_model(model: nn.Module) -> nn.Module:
    """Change a model of transformers, in place, so that every stage reaches its layers, and return it.

    Its parameters become float32; ``Conv1D`` of GPT-2 becomes ``nn.Linear`` with the transposed weight, which computes
    the same; and outputs are mappings without a cache of keys and values.
    """
    if not isinstance(model, nn.Module) or not hasattr(model, "config"):
        raise WrongInput(Problem("model", "must be a model of transformers, with its config", type(model).__name__))
    config: Any = model.config
    config.return_dict, config.use_cache, config.architectures = True, False, [type(model).__name__]
    model.float().eval()
    conv1d = library().pytorch_utils.Conv1D
    for name, layer in list(model.named_modules()):
        if isinstance(layer, conv1d):
            model.set_submodule(name, _linear(layer))
    return model


@torch.no_grad()
def _linear(layer: Any) -> nn.Linear:
    made = nn.Linear(layer.weight.shape[0], layer.weight.shape[1])
    made.weight.copy_(layer.weight.T)
    made.bias.copy_(layer.bias)
    made.weight.requires_grad_(layer.weight.requires_grad)
    made.bias.requires_grad_(layer.bias.requires_grad)
    return made


def instance(model: nn.Module | Callable[[], nn.Module]) -> Any:
    """Return the model, or one made by the function without a trace in torch's generator."""
    if isinstance(model, nn.Module):
        return model
    with torch.random.fork_rng():
        return model()


def processor_for(given: object, source: ModelSource, auto_class: str, noun: str) -> Any:
    """Return the tokenizer or image processor: `given`, loaded from a folder if it is one, or the model's own.

    Raises `WrongInput` if there is none.
    """
    if given is not None and not isinstance(given, str | Path):
        return given
    place = given or (source if isinstance(source, str | Path) else getattr(source, "name_or_path", None))
    if not place:
        hint = f"give {noun}=..., or the model as a folder that holds one"
        raise WrongInput(Problem(noun, "there must be one for a model that does not come from a folder", hint=hint))
    hint = f"give {noun}=..., or save one in this folder"
    made = _loaded(getattr(library(), auto_class), place, noun, hint)
    if hasattr(made, "get_vocab") and set(made.get_vocab()) <= set(made.all_special_tokens):
        rule = (
            f"there must be one in the folder; without its files transformers makes a {type(made).__name__} of no words"
        )
        raise WrongInput(Problem(noun, rule, str(place), hint))
    return made


def _loaded(loader: Any, place: str | Path, noun: str, hint: str) -> Any:
    try:
        with _without_progress_bar():
            return loader.from_pretrained(str(place))
    except (OSError, ValueError, KeyError, ImportError, TypeError, AttributeError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise WrongInput(Problem(noun, f"cannot be loaded: {reason:.160}", str(place), hint)) from None


@contextmanager
def _without_progress_bar() -> Iterator[None]:
    """Let transformers draw no progress bar inside the block: workers load models too, beside a live display."""
    settings = library().utils.logging
    shown = settings.is_progress_bar_enabled()
    settings.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            settings.enable_progress_bar()


def accepted_inputs(model: nn.Module, offered: Sequence[str], required: str) -> tuple[str, ...]:
    """Return those of the offered inputs that the model's ``forward`` names.

    Raises `WrongInput` if `required` is not among them.
    """
    known = [
        name
        for name, parameter in signature(model.forward).parameters.items()
        if parameter.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    ]
    found = tuple(name for name in offered if name in known)
    if required not in found:
        rule = f"{type(model).__name__}.forward must take {required!r}, which {', '.join(offered)} are offered with"
        raise WrongInput(Problem("model", rule, ", ".join(known)))
    return found


def pretrained_files(model: nn.Module, processor: Any) -> Mapping[str, bytes]:
    """Return the files that ``save_pretrained`` of the model's config and of its processor writes, by name.

    With them a delivered folder is one that optimum and transformers load by name.
    """
    with TemporaryDirectory() as folder:
        parts: tuple[Any, Any] = (model.config, processor)
        for part in parts:
            part.save_pretrained(folder)
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir()) if path.is_file()}

"""Test whether a model without some channels gives the same outputs as with these channels set to zero."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.rnn import PackedSequence

from paretta.pipelines.data.trees import TensorTree, call_model, mapped
from paretta.pipelines.model.equivalence import compare_answers
from paretta.pipelines.pruning.channel_groups import Cut, Member, positions_of, remove
from paretta.pipelines.ranks import Ranks

_log = logging.getLogger("paretta")
# exceptions of a forward that depends on the original width
_REFUSALS = (RuntimeError, ValueError, IndexError, AssertionError, TypeError, KeyError, ZeroDivisionError)
# rounding of doubles and of floats, relative to the largest value; a wrong cut changes some layer by more
_DOUBLE, _FLOAT = 1e-8, 1e-4


class Proof:
    """Tests cuts on copies of a model, with real samples.

    The reference model keeps all its channels. Removed channels are zeroed in the inputs of the layers that read them,
    and norms over channels use only the remaining channels. In the cut model every reading layer must receive the same
    inputs, and the outputs must be the same. Both compute in doubles if the model can, to tell small differences from
    rounding. If the model calls more modules in training, such as auxiliary heads, the cut model must run in training.
    """

    def __init__(self, model: nn.Module, inputs: TensorTree, ranks: Ranks) -> None:
        """Take a copy of `model`; `inputs` are real samples, a tree of [n, ...]."""
        self._ranks = ranks
        self._samples, self._tolerance = inputs, _FLOAT
        memo: dict[int, object] = {id(tensor): tensor for tensor in _tensors(model)}
        self._model: nn.Module = deepcopy(model, memo)
        self._copies = memo
        try:
            doubled: dict[int, object] = {id(tensor): _double(tensor) for tensor in _tensors(model)}
            wide: nn.Module = deepcopy(model, doubled)
            with torch.no_grad():
                call_model(wide, mapped(_double, inputs))
        except _REFUSALS:
            pass  # its forward creates float tensors itself
        else:
            self._model, self._copies, self._samples, self._tolerance = wide, doubled, mapped(_double, inputs), _DOUBLE
        self._calls_more = _calls_more_in_training(self._model, self._samples)

    def obstacle(self, cuts: Sequence[Cut]) -> str | None:
        """Return what is wrong with these cuts; None if the cut model gives the masked model's outputs (collective)."""
        reason = self._obstacle(cuts)
        # one decision for all ranks, whose rounding may differ
        return (reason or "it fails on another worker") if self._ranks.any(reason is not None) else None

    def sound(self, cuts: Sequence[Sequence[Cut]]) -> tuple[list[int], dict[int, str]]:
        """Return the cuts that are valid together, and why each of the others is not (collective).

        All are tested at once and, if that fails, in halves.
        """
        refused: dict[int, str] = {}

        def grown(accepted: list[int], tried: list[int]) -> list[int]:
            if not tried:
                return accepted
            reason = self.obstacle([cut for index in [*accepted, *tried] for cut in cuts[index]])
            if reason is None:
                return [*accepted, *tried]
            if len(tried) == 1:
                refused[tried[0]] = reason
                return accepted
            half = len(tried) // 2
            return grown(grown(accepted, tried[:half]), tried[half:])

        return grown([], list(range(len(cuts)))), refused

    def _obstacle(self, cuts: Sequence[Cut]) -> str | None:
        memo: dict[int, object] = {id(tensor): tensor for tensor in _tensors(self._model)}
        small: nn.Module = deepcopy(self._model, memo)

        def place(module: nn.Module) -> nn.Module:
            return cast(nn.Module, memo[id(self._copies[id(module)])])

        try:
            remove(cuts, place)
            norms = {
                self._copy(member.module): (member, gone, place(member.module))
                for member, gone in positions_of(cuts, "follows")
            }
            readers = positions_of(cuts, "reads")
            reading = {self._copy(member.module): (member, gone) for member, gone in readers}
            cut_reading = {place(member.module): (member, gone) for member, gone in readers}
            comparison = compare_answers(
                lambda inputs: _masked(self._model, inputs, reading, norms),
                lambda inputs: _cut(small, inputs, cut_reading),
                [self._samples],
                tolerance=self._tolerance,
            )
            if self._calls_more:
                _called(small, self._samples, training=True)
        except _REFUSALS as error:
            return f"the model's forward depends on their number: {str(error).splitlines()[0]}"
        return None if comparison.alike else f"without a part of them the model is not the same: {comparison.words()}"

    def _copy(self, module: nn.Module) -> nn.Module:
        return cast(nn.Module, self._copies[id(module)])


def _calls_more_in_training(model: nn.Module, inputs: TensorTree) -> bool:
    """Return whether modules are called in training alone, such as auxiliary heads; False if it needs more inputs."""
    try:
        return bool(_called(model, inputs, training=True) - _called(model, inputs, training=False))
    except _REFUSALS:
        return False


def _called(model: nn.Module, inputs: TensorTree, *, training: bool) -> set[str]:
    """Run a copy of the model, since norms keep what they see in training, and return the modules that it calls."""
    copy = deepcopy(model).train(training)
    called: set[str] = set()
    for name, module in copy.named_modules():
        module.register_forward_pre_hook(lambda *_, name=name: called.add(name))
    with torch.random.fork_rng(), torch.no_grad():
        call_model(copy, inputs)
    return called


_Where = tuple[Member, list[int]]


def _masked(
    model: nn.Module,
    inputs: TensorTree,
    readers: Mapping[nn.Module, _Where],
    norms: Mapping[nn.Module, tuple[Member, list[int], nn.Module]],
) -> object:
    """Return the outputs and the layers' inputs with the removed channels zeroed, and then left out of the inputs."""

    def zeroed(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        member, gone = readers[module]
        axis, kept = _axis(module, x), _kept(member.width, gone, x.device)
        return x.index_fill(axis, torch.tensor(gone, dtype=torch.long, device=x.device), 0.0), x.index_select(
            axis, kept
        )

    def renormed(module: nn.Module, args: tuple[object, ...], output: object) -> object:
        member, gone, small = norms[module]
        x = args[0] if len(args) == 1 else None
        if not (isinstance(x, Tensor) and isinstance(output, Tensor) and x.shape == output.shape):
            return output
        axis, kept = _norm_axis(module, member, x), _kept(member.width, gone, x.device)
        if axis is None:
            return output
        return torch.zeros_like(output).index_copy(axis, kept, small(x.index_select(axis, kept)))

    with ExitStack() as hooks:
        for module, (member, _, _) in norms.items():
            if _counts_channels(module, member):
                hooks.enter_context(module.register_forward_hook(renormed))
        read = hooks.enter_context(_reading(readers, zeroed))
        return call_model(model, inputs), read


def _cut(model: nn.Module, inputs: TensorTree, readers: Mapping[nn.Module, _Where]) -> object:
    with _reading(readers, lambda _, x: (x, x)) as read:
        return call_model(model, inputs), read


@contextmanager
def _reading(
    readers: Mapping[nn.Module, _Where], watch: Callable[[nn.Module, Tensor], tuple[Tensor, Tensor]]
) -> Iterator[dict[str, list[Tensor]]]:
    """Yield the readers' inputs by name; `watch` returns the input to pass to a reader and the value to record."""
    read: dict[str, list[Tensor]] = {}

    def before(module: nn.Module, args: tuple[object, ...]) -> tuple[object, ...]:
        x = args[0]
        rows = x.data if isinstance(x, PackedSequence) else x
        assert isinstance(rows, Tensor)
        handed, noted = watch(module, rows)
        read.setdefault(readers[module][0].name, []).append(noted)
        return (x._replace(data=handed) if isinstance(x, PackedSequence) else handed, *args[1:])

    with ExitStack() as hooks:
        for module in readers:
            hooks.enter_context(module.register_forward_pre_hook(before))
        yield read


def _axis(module: nn.Module, x: Tensor) -> int:
    """Return the axis of the channels in the input of a layer."""
    return x.dim() - 1 - (len(module.kernel_size) if isinstance(module, _ConvNd) else 0)


def _counts_channels(module: nn.Module, member: Member) -> bool:
    """Return True if a module between makers and readers may compute over all channels at once, as norms do."""
    own = bool(member.parameter) and not list(module.children())
    return own or isinstance(module, nn.LayerNorm | nn.GroupNorm | nn.RMSNorm)


def _norm_axis(module: nn.Module, member: Member, x: Tensor) -> int | None:
    """Return the axis of the channels in the input of such a module; None if there is none."""
    if isinstance(module, nn.LayerNorm | nn.RMSNorm):
        return x.dim() - 1
    fits = [axis for axis in ((1, x.dim() - 1) if x.dim() > 3 else (x.dim() - 1, 1)) if x.shape[axis] == member.width]
    return fits[0] if fits else None


def _kept(width: int, gone: Sequence[int], device: torch.device) -> Tensor:
    keep = torch.ones(width, dtype=torch.bool, device=device)
    keep[list(gone)] = False
    return keep.nonzero().flatten()


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()


def _double(tensor: Tensor) -> Tensor:
    """Convert a float tensor to doubles, and leave other types unchanged; a parameter stays a parameter."""
    if not tensor.is_floating_point():
        return tensor
    wide = tensor.detach().double()
    return nn.Parameter(wide, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else wide

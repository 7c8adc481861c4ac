"""The statistics of a data pass, compared with explicit gates."""

import torch
from torch import Tensor, nn

from paretta.pipelines.bench import Bench, derived_seed
from paretta.pipelines.data.samples import draw, take
from paretta.pipelines.pruning.gradient_pass import gradients
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.tasks.digits import make


def test_gates_are_those_that_multiply_each_output() -> None:
    task = make(width=4, hidden=8)
    torch.manual_seed(0)
    model = task.new_model().eval()
    for norm in (model.bn1, model.bn2):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    bench = Bench(task, Ranks.alone(), seed=3)
    found = gradients(model, bench, 60).gates

    inputs, targets = take(task.train, draw(task.train, 60, derived_seed(3, "samples")))
    for module in (model.conv1, model.bn1, model.bn2, model.fc1, model.fc2):
        gate = torch.ones(len(module.weight), requires_grad=True)

        def gated(_: nn.Module, __: object, outputs: Tensor, gate: Tensor = gate) -> Tensor:
            return outputs * gate.view(1, -1, *[1] * (outputs.dim() - 2))

        handle = module.register_forward_hook(gated)
        task.loss(model(inputs), targets).backward()
        handle.remove()
        assert gate.grad is not None
        torch.testing.assert_close(found[module], gate.grad.abs(), rtol=1e-4, atol=1e-6)


def test_sizes_of_batches_do_not_cancel() -> None:
    task = make(width=2, hidden=4)
    torch.manual_seed(0)
    model = task.new_model().eval()
    found = gradients(model, Bench(task, Ranks.alone()), 256)
    for parameter in model.parameters():
        signed, absolute = found.of(parameter)
        assert bool((absolute >= signed.abs() - 1e-7).all())
        assert float(absolute.sum()) > float(signed.abs().sum())

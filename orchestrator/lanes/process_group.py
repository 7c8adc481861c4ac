"""torch's process group over the workers of a lane, joined by the workers themselves.

Ray Train's own `TorchConfig` loads torch into the process that starts a lane and into the one that watches it, neither
of which computes: 2.6 s of CPU each, one after the other, before the workers start (Ray 2.60).
"""

import os
import socket

import ray
from ray.train import get_context
from ray.train.backend import Backend, BackendConfig
from ray.train.collective import broadcast_from_rank_zero


class _SharedDevices(Backend):
    """Lets each worker see the GPUs of all workers on its node, which they need to exchange tensors directly."""

    share_cuda_visible_devices = True


class TorchWorkers(BackendConfig):
    """Workers that call `join_group` themselves."""

    @property
    def backend_cls(self) -> type[Backend]:
        """See `_SharedDevices`."""
        return _SharedDevices


def join_group() -> None:
    """Connect the workers of this lane, if there are several; each of them calls it."""
    context = get_context()
    if context.get_world_size() == 1:
        return
    from ray.train.torch import get_device  # noqa: PLC0415 - only workers need torch

    from paretta.pipelines.ranks import connect_ranks  # noqa: PLC0415

    host, port = broadcast_from_rank_zero(_free_address() if context.get_world_rank() == 0 else None)
    # torchrun's variables, for what a user's own code may ask
    os.environ |= {
        "MASTER_ADDR": host,
        "MASTER_PORT": str(port),
        "RANK": str(context.get_world_rank()),
        "WORLD_SIZE": str(context.get_world_size()),
        "LOCAL_RANK": str(context.get_local_rank()),
        "LOCAL_WORLD_SIZE": str(context.get_local_world_size()),
        "NODE_RANK": str(context.get_node_rank()),
    }
    connect_ranks(get_device())


def _free_address() -> tuple[str, int]:
    host = str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as free:
        return host, free.getsockname()[1]

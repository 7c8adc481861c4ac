"""What fits a cluster is counted node by node."""

from collections.abc import Mapping

import pytest

from paretta.orchestrator.cluster import capacity as capacity_module
from paretta.orchestrator.cluster.capacity import require_capacity
from paretta.search_spaces.errors import WrongInput


@pytest.mark.parametrize(
    ("nodes", "groups", "workers", "resources", "fits"),
    [
        ([{"CPU": 2.0}], 1, 2, {"CPU": 1.0}, True),
        ([{"CPU": 2.0}], 1, 3, {"CPU": 1.0}, False),
        ([{"CPU": 2.0}], 2, 2, {"CPU": 0.5}, True),
        ([{"CPU": 3.0}, {"CPU": 3.0}], 1, 3, {"CPU": 2.0}, False),  # 6 CPUs, but only one worker fits each node
        ([{"CPU": 8.0, "GPU": 1.0}, {"CPU": 8.0}], 1, 2, {"CPU": 1.0, "GPU": 1.0}, False),
        ([{"CPU": 8.0, "GPU": 1.0}], 1, 2, {"CPU": 1.0, "GPU": 0.5}, True),
        ([], 1, 1, {"CPU": 1.0}, False),
    ],
)
def test_capacity_is_counted_per_node(
    monkeypatch: pytest.MonkeyPatch,
    *,
    nodes: list[Mapping[str, float]],
    groups: int,
    workers: int,
    resources: Mapping[str, float],
    fits: bool,
) -> None:
    table = [{"Alive": True, "Resources": node} for node in nodes] + [{"Alive": False, "Resources": {"CPU": 99.0}}]
    monkeypatch.setattr(capacity_module.ray, "nodes", lambda: table)
    if fits:
        require_capacity(groups, workers, resources)
    else:
        with pytest.raises(WrongInput, match=rf"needs {groups * workers} x .* the cluster has room for"):
            require_capacity(groups, workers, resources)

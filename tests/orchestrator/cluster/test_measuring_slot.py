"""The exclusive slot on a cluster of two nodes: where it is, that it excludes, and that training cannot block it."""

import os
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from paretta.orchestrator.cluster.connect import PACKAGE, QUIET
from paretta.orchestrator.cluster.measuring_slot import SLOT, MeasuringSlot, choose_slot
from paretta.search_spaces.errors import TrialFailed, WrongInput

HELD_S = 0.3


@pytest.fixture(scope="module")
def target() -> Iterator[str]:
    """The id of the node with the slot and a board; the driver's node has neither."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**QUIET, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(PACKAGE.parent)}.items():
            patch.setenv(name, value)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        node = cluster.add_node(num_cpus=1, resources={SLOT: 1, "board": 2}, labels={"kind": "jetson"})
        try:
            ray.init(address=cluster.address, log_to_driver=False)
            cluster.wait_for_nodes()
            yield node.node_id
        finally:
            ray.shutdown()
            cluster.shutdown()


def hold(slot: MeasuringSlot) -> tuple[float, float, str]:
    """Take the slot in another process and return when it was held, and on which node."""
    with slot.taken():
        begun = time.time()
        time.sleep(HELD_S)
        return begun, time.time(), ray.get_runtime_context().get_node_id()


def held(slots: list[MeasuringSlot]) -> list[tuple[float, float, str]]:
    measure = ray.remote(num_cpus=0)(hold)
    waiting = [
        measure.options(scheduling_strategy=NodeAffinitySchedulingStrategy(slot.node, soft=False)).remote(slot)
        for slot in slots
    ]
    return sorted(ray.get(waiting, timeout=60))


def apart(times: list[tuple[float, float, str]]) -> bool:
    return all(before[1] <= after[0] for before, after in pairwise(times))


def test_the_node_with_the_slot_is_chosen(target: str) -> None:
    assert choose_slot().node == target
    assert choose_slot().bundle == {SLOT: 1}
    assert choose_slot("other_slot").bundle == {}
    assert choose_slot("other_slot").node == ray.get_runtime_context().get_node_id() != target
    assert choose_slot("other_slot", {"board": 2}).node == target
    assert choose_slot(pins={"board": 2}).bundle == {SLOT: 1, "board": 2}


def test_a_pin_that_no_node_offers_is_refused_naming_what_nodes_have(target: str) -> None:
    with pytest.raises(WrongInput) as caught:
        choose_slot(pins={"jetson": 1}, where="sweep.yaml:9 measuring.resources")
    assert "sweep.yaml:9 measuring.resources: no node of the cluster has 1 jetson" in str(caught.value)
    assert "2 board" in str(caught.value)
    with pytest.raises(WrongInput, match="3 board"):
        choose_slot(pins={"board": 3})


def test_a_label_pins_the_node_too(target: str) -> None:
    assert choose_slot("other_slot", labels={"kind": "jetson"}).node == target
    assert choose_slot(pins={"board": 1}, labels={"kind": "jetson"}).bundle == {SLOT: 1, "board": 1}
    with pytest.raises(WrongInput) as caught:
        choose_slot(pins={"board": 1}, labels={"kind": "phone"}, where="sweep.yaml:9 measuring")
    told = str(caught.value)
    assert "sweep.yaml:9 measuring: no node of the cluster has 1 board + label kind=phone to measure on" in told
    assert "label kind=jetson" in told
    assert "ray.io" not in told


def test_the_resource_alone_keeps_two_sweeps_apart(target: str, tmp_path: Path) -> None:
    slots = [MeasuringSlot(target, {SLOT: 1}, tmp_path / f"lock{sweep}") for sweep in range(2)]
    times = held(slots)
    assert apart(times)
    assert {node for _, _, node in times} == {target}


def test_the_file_alone_keeps_two_sweeps_apart(target: str, tmp_path: Path) -> None:
    assert apart(held([MeasuringSlot(target, {}, tmp_path / "lock")] * 2))


def test_nothing_keeps_apart_what_shares_neither(target: str, tmp_path: Path) -> None:
    # the oracle of the two tests above: with nothing in common the same measurements do overlap
    assert not apart(held([MeasuringSlot(target, {}, tmp_path / f"lock{sweep}") for sweep in range(2)]))


def test_training_on_every_cpu_does_not_keep_the_slot_waiting(target: str, tmp_path: Path) -> None:
    stop = tmp_path / "stop"

    @ray.remote(num_cpus=1)
    def train() -> bool:
        (tmp_path / f"busy{os.getpid()}").touch()
        while not stop.exists():
            time.sleep(0.05)
        return True

    trainings = [train.remote() for _ in range(2)]
    while len(list(tmp_path.glob("busy*"))) < 2:
        time.sleep(0.05)
    assert len(held([MeasuringSlot(target, {SLOT: 1}, tmp_path / "lock")])) == 1
    stop.touch()
    assert ray.get(trainings, timeout=60) == [True, True]


def test_a_slot_that_stays_taken_fails_the_trial(target: str, tmp_path: Path) -> None:
    one, other = MeasuringSlot(target, {SLOT: 1}, tmp_path / "a"), MeasuringSlot(target, {SLOT: 1}, tmp_path / "b")
    with one.taken():
        with pytest.raises(TrialFailed, match="latency_slot did not become free"), other.taken(wait_s=0.3):
            pass
        with (
            pytest.raises(TrialFailed, match="another sweep measures here"),
            MeasuringSlot(target, {}, one.lock).taken(0.1),
        ):
            pass
    with other.taken(wait_s=10):
        pass

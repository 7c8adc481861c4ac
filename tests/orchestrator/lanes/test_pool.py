"""Lanes on a real local Ray: many jobs on one worker group, killed workers, errors on all ranks or one, and the end."""

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

import pytest
import ray
from ray import tune

from paretta.orchestrator.cluster.connect import ConnectedCluster, connect
from paretta.orchestrator.cluster.ray_calls import answer
from paretta.orchestrator.lanes.messages import Timeouts
from paretta.orchestrator.lanes.pool import Handler, Job, JobStopped, LaneClient, LanePool
from paretta.orchestrator.lanes.worker import JobReturned
from paretta.orchestrator.samplers.random import make
from paretta.orchestrator.search.spec import Search
from paretta.orchestrator.search.suggester import Suggester
from paretta.orchestrator.tune.search_alg import TuneSearcher
from paretta.search_spaces.errors import Problem, TrialFailed, WrongInput
from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.space.space import Space


def handler_of_many_ways() -> Handler:
    """Return a handler that does what its payload says; defined inside, so that it travels to the workers whole."""

    def handle(payload, rank):  # type: ignore[no-untyped-def]  # noqa: PLR0911, PLR0912 - a line a way
        import os
        import time

        import torch
        import torch.distributed

        def add_ranks() -> float:
            number = torch.tensor([float(rank.rank + 1)])
            torch.distributed.all_reduce(number)
            return float(number)

        match payload["do"]:
            case "add":
                torch.distributed.barrier()
                facts = {"sum": add_ranks(), "pid": os.getpid(), "threads": torch.get_num_threads()}
                return {**facts, "backend": torch.distributed.get_backend(), "attempt": rank.attempt}
            case "raise":
                raise ValueError(f"all ranks alike: {add_ranks()}")
            case "raise on one rank":
                if rank.rank == 1:
                    raise ValueError("rank 1 alone")
                return add_ranks()
            case "differ at the end":
                add_ranks()
                if rank.rank == 0:
                    raise ValueError("rank 0 alone")
            case "wait until killed":
                rank.progress({"pid": os.getpid(), "attempt": rank.attempt})
                if rank.attempt <= payload["kills"]:
                    time.sleep(600)
                return {"attempt": rank.attempt, "sum": add_ranks()}
            case "epochs":
                for epoch in range(payload["epochs"]):
                    add_ranks()
                    rank.progress({"epoch": epoch})
                    time.sleep(payload["seconds"])
                return "ran to the end"
            case "sleep":
                time.sleep(600)
            case "fill the memory":
                return bytearray(2**50)
            case "unpicklable":
                return (line for line in "ab")
        return None

    return cast(Handler, handle)


@pytest.fixture(scope="module")
def cluster() -> Iterator[ConnectedCluster]:
    with connect(num_cpus=2) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def lanes(cluster: ConnectedCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LanePool]:
    storage = tmp_path_factory.mktemp("lanes")
    timeouts = Timeouts(agree_s=3.0, alive_s=4.0)
    with LanePool(handler_of_many_ways(), storage=storage, workers_per_lane=2, timeouts=timeouts) as lanes:
        yield lanes
    assert [actor for actor in living_actors() if actor not in system_actors()] == []
    assert [group for group in ray.util.placement_group_table().values() if group["state"] != "REMOVED"] == []


def living_actors(seconds: float = 15.0) -> list[str]:
    """Class names of the actors that still live; those on their way out are given time."""
    deadline = time.monotonic() + seconds
    while True:
        states = ray._private.state.actors().values()
        living = [str(actor["ActorClassName"]) for actor in states if actor["State"] != "DEAD"]
        if set(living) <= system_actors() or time.monotonic() > deadline:
            return living
        time.sleep(0.2)


def system_actors() -> set[str]:
    return {"AutoscalingCoordinator", "_AutoscalingCoordinatorActor"}


def run(lanes: LanePool, uid: str, timeout_s: float = 200.0, limit_s: float | None = None, **payload: object) -> object:
    lanes.submit(Job(uid, payload, limit_s=limit_s))
    return lanes.result(uid, timeout_s=timeout_s)


def added(lanes: LanePool, uid: str) -> Mapping[str, object]:
    return cast(Mapping[str, object], run(lanes, uid, do="add"))


def test_jobs_share_one_group_with_a_process_group_and_one_thread_each(lanes: LanePool) -> None:
    first, second = added(lanes, "one"), added(lanes, "two")
    assert first["sum"] == 3.0
    assert first["backend"] == "gloo"
    assert first["threads"] == 1
    assert first["pid"] == second["pid"] != os.getpid()


def test_an_error_on_all_ranks_fails_the_job_and_keeps_the_group(lanes: LanePool) -> None:
    before = added(lanes, "before")
    with pytest.raises(TrialFailed, match=r"^ValueError: all ranks alike: 3\.0$") as caught:
        run(lanes, "raise", do="raise")
    assert "Traceback" in caught.value.detail
    with pytest.raises(TrialFailed, match="pickle"):
        run(lanes, "unpicklable", do="unpicklable")
    with pytest.raises(TrialFailed, match=r"^out of memory: MemoryError; give a smaller batch_size"):
        run(lanes, "fill the memory", do="fill the memory")
    assert added(lanes, "after")["sum"] == 3.0
    assert before["attempt"] == 1


@pytest.mark.usefixtures("cluster")
def test_an_error_of_our_own_comes_from_another_process_as_it_was() -> None:
    problem = Problem("task.test[37]", "reading it failed", hint="mend it")

    def fail() -> None:
        raise WrongInput(problem)

    with pytest.raises(WrongInput) as caught:
        answer(ray.remote(num_cpus=0)(fail).remote(), 60.0)
    assert type(caught.value) is WrongInput
    assert caught.value.problems == (problem,)
    assert str(caught.value) == "task.test[37]: reading it failed; mend it"


@pytest.mark.parametrize(
    ("how", "reason"),
    [("raise on one rank", r"rank 1 alone \(rank 1"), ("differ at the end", r"rank 0 alone \(rank 0")],
)
def test_ranks_that_disagree_fail_the_job_and_renew_the_group(lanes: LanePool, how: str, reason: str) -> None:
    before = added(lanes, f"before {how}")
    with pytest.raises(TrialFailed, match=reason):
        run(lanes, how, do=how)
    after = added(lanes, f"after {how}")
    assert after["pid"] != before["pid"]
    assert after["sum"] == 3.0


def kill_rank_zero(lanes: LanePool, uid: str, attempt: int) -> None:
    seen, deadline = 0, time.monotonic() + 200
    while time.monotonic() < deadline:
        update = lanes.client.wait(uid, seen=seen, timeout_s=5.0)
        seen += len(update.progress)
        for message in update.progress:
            if message["attempt"] == attempt:
                os.kill(cast(int, message["pid"]), 9)
                return
    raise AssertionError(f"attempt {attempt} did not begin")


def test_a_killed_worker_has_its_job_delivered_again(lanes: LanePool) -> None:
    lanes.submit(Job("killed once", {"do": "wait until killed", "kills": 1}))
    kill_rank_zero(lanes, "killed once", attempt=1)
    assert lanes.result("killed once", timeout_s=200) == {"attempt": 2, "sum": 3.0}


def test_a_job_that_loses_every_attempt_fails_and_the_lane_goes_on(lanes: LanePool) -> None:
    lanes.submit(Job("killed twice", {"do": "wait until killed", "kills": 2}, max_attempts=2))
    kill_rank_zero(lanes, "killed twice", attempt=1)
    kill_rank_zero(lanes, "killed twice", attempt=2)
    with pytest.raises(TrialFailed, match=r"worker of lane 0 died while running it \(attempt 2 of 2\)"):
        lanes.result("killed twice", timeout_s=200)
    assert added(lanes, "after two kills")["sum"] == 3.0


def test_progress_arrives_in_order_and_a_job_stops_on_all_ranks_alike(lanes: LanePool) -> None:
    before = added(lanes, "before the stop")
    lanes.submit(Job("stopped", {"do": "epochs", "epochs": 1000, "seconds": 0.05}))
    epochs: list[object] = []
    while len(epochs) < 3:
        epochs += [message["epoch"] for message in lanes.client.wait("stopped", seen=len(epochs)).progress]
    assert epochs == list(range(len(epochs)))
    lanes.client.cancel("stopped")
    with pytest.raises(JobStopped):
        lanes.result("stopped", timeout_s=30)
    assert added(lanes, "after the stop")["pid"] == before["pid"]


def test_a_job_has_a_limit(lanes: LanePool) -> None:
    with pytest.raises(TrialFailed, match="longer than its limit of 1 s"):
        run(lanes, "too long", do="sleep", limit_s=1.0)
    assert added(lanes, "after the limit")["sum"] == 3.0


def test_a_result_is_not_waited_for_for_ever(lanes: LanePool) -> None:
    lanes.submit(Job("slow", {"do": "epochs", "epochs": 30, "seconds": 0.05}))
    with pytest.raises(TimeoutError, match=r"slow has not ended within 0\.2 s"):
        lanes.result("slow", timeout_s=0.2)
    assert lanes.result("slow", timeout_s=30) == "ran to the end"


def test_a_group_that_cannot_fit_is_refused_at_once(cluster: ConnectedCluster, tmp_path: Path) -> None:
    with (
        pytest.raises(WrongInput, match=r"needs 3 x 1 CPU at once .* room for 2 \(a node with 2 CPU\)"),
        LanePool(handler_of_many_ways(), storage=tmp_path, workers_per_lane=3),
    ):
        pass


def test_a_group_whose_resources_stay_taken_returns_its_jobs_with_what_is_missing(
    lanes: LanePool, tmp_path: Path
) -> None:
    added(lanes, "the other lane holds both CPUs")
    with LanePool(handler_of_many_ways(), storage=tmp_path, workers_per_lane=2, start_timeout_s=2.0) as starved:
        starved.submit(Job("starved", {"do": "add"}))
        with pytest.raises(
            JobReturned, match=r"no lane is left .* within 2 s; it needs 2 x 1 CPU, free are 0 of 2 CPU"
        ):
            starved.result("starved", timeout_s=60)
        with pytest.raises(JobReturned, match="no lane is left"):
            run(starved, "too late", do="add")
        assert starved.lost().startswith("no lane is left to run it: lane 0")


def lane_trial() -> type:
    """Return the smallest trial on a lane; defined inside, so that it travels to the trial actors whole."""

    class LaneTrial(tune.Trainable):  # type: ignore[misc]
        """The smallest trial on a lane: one job per trial; its actor is reused for the next."""

        client: LaneClient

        def setup(self, config: dict[str, object], client: LaneClient) -> None:
            self.client = client
            self.begin(config)

        def begin(self, config: dict[str, object]) -> None:
            self.uid, self.seen, self.bits = f"tuned-{config['number']}", 0, config["plan"]["stages"][0]["bits"]  # type: ignore[index]
            self.client.submit(Job(self.uid, {"do": "epochs", "epochs": 2, "seconds": 0.0}))

        def step(self) -> dict[str, object]:
            update = self.client.wait(self.uid, seen=self.seen, timeout_s=30.0)
            self.seen += len(update.progress)
            if update.outcome is None:
                return {"status": "running"}
            self.client.forget(self.uid)
            return {"status": "complete", "size": self.bits, "done": True}

        def reset_config(self, new_config: dict[str, object]) -> bool:
            self.begin(new_config)
            return True

    return LaneTrial


def test_tune_trials_run_on_the_lane_and_take_no_cpu_from_it(
    lanes: LanePool, cluster: ConnectedCluster, tmp_path: Path
) -> None:
    before = added(lanes, "before tune")
    space = Space.parse([], [{"kind": "quantize", "bits": {"int": [2, 8]}}])
    search = Search(space, (Objective("size", "min", "B"),), num_trials=5)
    searcher = TuneSearcher(Suggester(search, make(search)), max_running=lanes.num_lanes + 1)
    trainable = tune.with_parameters(lane_trial(), client=lanes.client)
    results = tune.Tuner(
        tune.with_resources(trainable, cluster.trial_resources()),
        tune_config=tune.TuneConfig(search_alg=searcher, num_samples=5, reuse_actors=True),
        run_config=tune.RunConfig(
            name="sweep",
            storage_path=str(tmp_path),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
        ),
    ).fit()
    assert results.num_errors == 0
    assert len({result.metrics["size"] for result in results}) == 5
    assert [entry.verdict for entry in searcher.suggester.asked] == ["complete"] * 5
    assert added(lanes, "after tune")["pid"] == before["pid"]

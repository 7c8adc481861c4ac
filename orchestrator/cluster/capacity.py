"""How many workers, and how many worker groups, the cluster has room for."""

from collections.abc import Mapping

import ray

from paretta.search_spaces.errors import Problem, WrongInput


def require_capacity(
    groups: int, workers: int, resources: Mapping[str, float], *, beside: float = 0.0, where: str = "cluster"
) -> None:
    """Check that `groups` worker groups of `workers` workers, each with `resources`, fit the cluster at once.

    A worker runs on a single node, so the capacity of each node counts, not the sum over nodes. `beside` is the number
    of additional CPUs, anywhere in the cluster, that each group needs, for example to read data.

    Raises:
        WrongInput: they would not fit even an idle cluster.
    """
    if has_room(groups, workers, resources, beside=beside):
        return
    fit = capacity(resources)
    if fit < groups * workers:
        each = " + ".join(f"{amount:g} {name}" for name, amount in resources.items() if amount)
        has = "; ".join(_listing(node, resources) for node in _nodes())
        rule = f"needs {groups * workers} x {each} at once ({groups} lane(s) of {workers} worker(s))"
        hint = "lower the lanes, the workers per lane or their resources, or add nodes"
        raise WrongInput(Problem(where, f"{rule}; the cluster has room for {fit} ({has})", hint=hint))
    needs = groups * (workers * resources.get("CPU", 0.0) + beside)
    rule = f"needs {needs:g} CPU: {groups} lane(s) of {workers} worker(s), each with {beside:g} CPU to read data"
    hint = "lower the lanes, the workers per lane or their CPUs, or add nodes"
    raise WrongInput(Problem(where, f"{rule}; the cluster has {_cpus():g}", hint=hint))


def lanes_that_fit(workers: int, resources: Mapping[str, float], at_most: int, *, beside: float = 0.0) -> int:
    """Return how many groups fit the cluster now, from 1 to `at_most`; see `require_capacity` for the arguments."""
    room = int(_cpus() / (workers * resources["CPU"] + beside) + 1e-9) if beside else at_most
    return max(1, min(capacity(resources) // workers, room, at_most))


def has_room(groups: int, workers: int, resources: Mapping[str, float], *, beside: float = 0.0) -> bool:
    """Return whether `require_capacity` passes."""
    needs = groups * (workers * resources.get("CPU", 0.0) + beside)
    return capacity(resources) >= groups * workers and (not beside or needs <= _cpus())


def lane_bundles(workers: int, resources: Mapping[str, float], *, beside: float = 0.0) -> list[dict[str, float]]:
    """Return what a lane takes, in parts that must each fit a node: its workers, and the CPUs beside them.

    >>> lane_bundles(2, {"CPU": 1.0}, beside=0.5)
    [{'CPU': 1.0}, {'CPU': 1.0}, {'CPU': 0.5}]
    """
    return [dict(resources) for _ in range(workers)] + ([{"CPU": beside}] if beside else [])


def free_cores(groups: int, workers: int, cpus: float, threads: int) -> int:
    """Return how many cores each worker has for its loaders.

    They are those that it reserves and does not compute with, and its share of those that no worker reserves.
    """
    spare = max(_cpus() - groups * workers * cpus, 0.0) / (groups * workers)
    return max(int(cpus - threads + spare + 1e-9), 0)


def _cpus() -> float:
    return sum(node.get("CPU", 0.0) for node in _nodes())


def capacity(resources: Mapping[str, float]) -> int:
    """Return how many workers, each with `resources`, an idle cluster can run at once."""
    return sum(_fitting(node, resources) for node in _nodes())


def _nodes() -> list[Mapping[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def _fitting(node: Mapping[str, float], resources: Mapping[str, float]) -> int:
    rooms = [int(node.get(name, 0.0) / amount + 1e-9) for name, amount in resources.items() if amount > 0]
    return min(rooms, default=10**9)


def _listing(node: Mapping[str, float], resources: Mapping[str, float]) -> str:
    return "a node with " + ", ".join(f"{node.get(name, 0.0):g} {name}" for name in resources)

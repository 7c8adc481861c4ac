"""How many lanes each sweep of a shared cluster may have; knows no Ray and no system clock."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

TURN_S = 300.0  # seconds for which a sweep keeps its only lane where the cluster has not one for each; a start costs 12
SILENT_S = 60.0  # seconds without a request after which a sweep counts as ended


@dataclass(frozen=True, slots=True)
class LaneRequest:
    """What a sweep asks for.

    Args:
        resources: of one lane, with all its workers, by Ray's names.
        wanted: the number of lanes that it has use for.
        held: the number of lanes that hold resources now, including those that are about to be given back.
        priority: its weight; a sweep of priority 2 gets twice the resources of one of priority 1.
        started: whether the workers of any lane that it holds have started.
        useful: the number of lanes that it would have use for if the cluster had room for them.
        bundles: what a lane takes of single nodes, such as one worker; all of it from one node by default.
    """

    resources: Mapping[str, float]
    wanted: int
    held: int
    priority: float = 1.0
    started: bool = True
    useful: int = 0
    bundles: tuple[Mapping[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class LaneGrant:
    """How many lanes a sweep may have now, and the other sweeps that share the cluster with it."""

    lanes: int
    others: tuple[str, ...] = ()


@dataclass(slots=True)
class _Sweep:
    request: LaneRequest
    heard: float
    held: int = 0
    since: float = 0.0
    used: float = 0.0


class FairShare:
    """Divides a cluster among sweeps by weighted max-min fairness over their dominant resource.

    Each sweep asks every few seconds. A grant above what a sweep holds counts as held at once, and never exceeds what
    is free, so a sweep starts a lane only after another one has given it back. Where the cluster cannot hold a lane of
    each sweep, sweeps take turns: after `turn_s` seconds of a lane whose workers have started, the sweep that has used
    least so far comes first.

    Args:
        clock: a monotonic clock, in seconds.
        turn_s: seconds of a turn.
        silent_s: seconds without a request after which a sweep counts as ended.

    Source: Ghodsi et al., Dominant Resource Fairness, NSDI 2011.
    """

    def __init__(self, clock: Callable[[], float], *, turn_s: float = TURN_S, silent_s: float = SILENT_S) -> None:
        self._clock, self._turn_s, self._silent_s = clock, turn_s, silent_s
        self._sweeps: dict[str, _Sweep] = {}

    def ask(self, name: str, request: LaneRequest, capacity: Mapping[str, float]) -> LaneGrant:
        """Record what a sweep holds and wants, and return how many lanes it may have of the cluster's `capacity`."""
        now = self._clock()
        self._record(name, request, capacity, now)
        target = self._targets(capacity, now)[name]
        sweep = self._sweeps[name]
        free = self._free(capacity)
        while sweep.held < target and _fits(request.resources, free):
            free = _less(free, request.resources)
            sweep.held += 1
        others = tuple(sorted(other for other in self._sweeps if other != name))
        return LaneGrant(min(target, sweep.held), others)

    def leave(self, name: str) -> bool:
        """Drop a sweep that has ended; return whether none is left."""
        self._sweeps.pop(name, None)
        return self.is_over()

    def is_over(self) -> bool:
        """Drop the sweeps that are silent, and return whether none is left."""
        now = self._clock()
        for name in [name for name, sweep in self._sweeps.items() if now - sweep.heard > self._silent_s]:
            del self._sweeps[name]
        return not self._sweeps

    def useful(self) -> list[dict[str, float]]:
        """Return what all sweeps together have use for, by the parts that must each fit a node."""
        requests = [self._sweeps[name].request for name in sorted(self._sweeps)]
        return [
            dict(bundle)
            for request in requests
            for _ in range(max(request.useful, request.wanted))
            for bundle in request.bundles or (request.resources,)
        ]

    def _record(self, name: str, request: LaneRequest, capacity: Mapping[str, float], now: float) -> None:
        self.is_over()
        if name not in self._sweeps:
            least = min((sweep.used for sweep in self._sweeps.values()), default=0.0)
            self._sweeps[name] = _Sweep(request, now, since=now, used=least)
        sweep = self._sweeps[name]
        sweep.used += (now - sweep.heard) * _share(sweep.request, sweep.held, capacity)
        if sweep.held == 0 or request.held == 0 or not request.started:
            sweep.since = now
        sweep.request, sweep.heard, sweep.held = request, now, request.held

    def _targets(self, capacity: Mapping[str, float], now: float) -> dict[str, int]:
        """Return the number of lanes that each sweep should have, whatever it holds now."""
        targets, free = dict.fromkeys(self._sweeps, 0), dict(capacity)
        for name in sorted(self._sweeps, key=lambda name: self._turn(name, now)):
            request = self._sweeps[name].request
            if request.wanted > 0 and _fits(request.resources, free):
                targets[name], free = 1, _less(free, request.resources)
        while True:
            more = [
                (_share(sweep.request, targets[name] + 1, capacity), name)
                for name, sweep in self._sweeps.items()
                if 0 < targets[name] < sweep.request.wanted and _fits(sweep.request.resources, free)
            ]
            if not more:
                return targets
            _, name = min(more)
            targets[name], free = targets[name] + 1, _less(free, self._sweeps[name].request.resources)

    def _turn(self, name: str, now: float) -> tuple[bool, float, str]:
        """Order sweeps for their first lane: those in their turn, then those that have used least."""
        sweep = self._sweeps[name]
        in_turn = sweep.held > 0 and now - sweep.since < self._turn_s
        return not in_turn, sweep.used, name

    def _free(self, capacity: Mapping[str, float]) -> dict[str, float]:
        free = dict(capacity)
        for sweep in self._sweeps.values():
            free = _less(free, {key: amount * sweep.held for key, amount in sweep.request.resources.items()})
        return free


def total(bundles: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the sum of several amounts of resources.

    >>> total([{"CPU": 2.0, "GPU": 0.5}, {"CPU": 1.0}])
    {'CPU': 3.0, 'GPU': 0.5}
    """
    names = dict.fromkeys(name for bundle in bundles for name in bundle)
    return {name: sum(bundle.get(name, 0.0) for bundle in bundles) for name in names}


def _share(request: LaneRequest, lanes: int, capacity: Mapping[str, float]) -> float:
    """Return the largest part of any resource that `lanes` lanes take, by the sweep's weight."""
    parts = [amount / max(capacity.get(key, 0.0), 1e-9) for key, amount in request.resources.items()]
    return lanes * max(parts, default=0.0) / request.priority


def _fits(resources: Mapping[str, float], free: Mapping[str, float]) -> bool:
    return all(amount <= free.get(key, 0.0) + 1e-9 for key, amount in resources.items())


def _less(free: Mapping[str, float], resources: Mapping[str, float]) -> dict[str, float]:
    return {**free, **{key: free.get(key, 0.0) - amount for key, amount in resources.items()}}

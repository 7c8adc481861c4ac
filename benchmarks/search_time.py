"""CPU time of one decision of the search policy by the number of observations it holds.

    python -m benchmarks.search_time

A decision is everything between a result and the next candidate: the fits of hyper-parameters that fall on the way, the
posterior, the front and the choice among some 600 candidates. Ten knobs, two known objectives, one learned. One trial
runs beside, or sixteen.
"""

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from paretta.orchestrator.policy.encoding import Configuration, Coordinates
from paretta.orchestrator.policy.grey_box import GreyBox
from paretta.orchestrator.policy.problem import Known, Learned, SearchProblem
from paretta.search_spaces.space.holes import Choice, Float
from paretta.search_spaces.space.space import Knob

LIMITS_MS = {250: 30.0, 2000: 60.0}
KNOBS = (
    *(Knob(f"bits{layer}", Choice((2, 3, 4, 8))) for layer in range(4)),
    *(Knob(f"keep{layer}", Float(0.1, 1.0)) for layer in range(4)),
    Knob("rate", Float(1e-4, 1e-1, log=True)),
    Knob("score", Choice(("l1", "l2", "taylor"))),
)
SPACE = Coordinates(KNOBS)


def known_losses(configs: Sequence[Configuration]) -> NDArray[np.float64]:
    keep = np.array([[config[f"keep{layer}"] for layer in range(4)] for config in configs], dtype=np.float64)
    bits = np.array([[config[f"bits{layer}"] for layer in range(4)] for config in configs], dtype=np.float64)
    return np.stack([(keep * bits).mean(axis=1) / 8.0, keep.mean(axis=1)], axis=1)


def error(config: Configuration, rng: np.random.Generator) -> float:
    inputs = SPACE.inputs(SPACE.encode(config)[None])[0]
    return float(0.05 + 0.3 * np.exp(-3.0 * inputs[:8].mean()) + (inputs[8] - 0.4) ** 2 + 0.01 * rng.random())


def decision_ms(num_observations: int, num_decisions: int = 60, num_running: int = 0) -> float:
    rng = np.random.default_rng(0)
    problem = SearchProblem(
        KNOBS,
        (Known("size", 1.0), Known("latency", 1.0)),
        (Learned("error", 0.5, scale="log"),),
        known_losses=known_losses,
    )
    search = GreyBox(problem, seed=0)
    for code in SPACE.draw(num_observations, rng):
        config = SPACE.decode(code)
        search.learn(config, 1.0, {"error": error(config, rng)}, attained=True)
    for _ in range(1 + num_running):
        search.ask()
    spent = 0.0
    for _ in range(num_decisions):
        begin = time.process_time()
        candidate = search.ask()
        spent += time.process_time() - begin
        assert candidate is not None
        loss = {"error": error(candidate.config, rng)}
        begin = time.process_time()
        search.tell(candidate.number, loss)
        spent += time.process_time() - begin
    return 1000.0 * spent / num_decisions


if __name__ == "__main__":
    for count in (50, 250, 600, 2000, 5000):
        limit = f" (limit {LIMITS_MS[count]:.0f})" if count in LIMITS_MS else ""
        alone, beside = decision_ms(count), decision_ms(count, num_running=15)
        print(
            f"{count:5d} observations: {alone:6.1f} ms CPU a decision{limit}; sixteen running {beside:6.1f}", flush=True
        )

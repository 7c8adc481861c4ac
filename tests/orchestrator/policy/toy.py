"""A small synthetic table, made by formula: two known objectives, one learned at three rungs, a shared prefix."""

from itertools import product

import numpy as np

from paretta.orchestrator.offline.simulator import Table
from paretta.orchestrator.policy.problem import Known, Learned, Rungs
from paretta.search_spaces.space.holes import Choice
from paretta.search_spaces.space.space import Knob

RUNGS = Rungs((1.0, 3.0, 9.0), (1.25, 3.25, 9.25))


def synthetic_table() -> Table:
    """Error falls with width, bits and a good rate, and with training; a teacher slows the start and helps the end."""
    knobs = (
        Knob("width", Choice((0.25, 0.5, 1.0))),
        Knob("bits", Choice((2, 3, 4, 8))),
        Knob("rate", Choice((0.001, 0.01, 0.1))),
        Knob("teacher", Choice((False, True))),
        Knob("temperature", Choice((2, 6)), (("teacher", True),)),
    )
    configs, known, errors = [], [], []
    for width, bits, rate, teacher, temperature in product(
        (0.25, 0.5, 1.0), (2, 3, 4, 8), (0.001, 0.01, 0.1), (0, 1), (2, 6)
    ):
        if not teacher and temperature == 6:
            continue
        config = {"width": width, "bits": bits, "rate": rate, "teacher": bool(teacher)}
        configs.append({**config, "temperature": temperature} if teacher else config)
        known.append([np.log2(width * bits / 8), np.log2(width) / 2])
        floor = 0.03 * (1 + 0.6 / width) * (1 + 2.0 / bits) * (1.4 if rate != 0.01 else 1.0) * (0.7 if teacher else 1.0)
        errors.append([[floor + (0.3 + 0.1 * teacher) * np.exp(-0.7 * epoch)] for epoch in RUNGS.fidelities])
    validation = np.array(errors)
    return Table(
        name="synthetic",
        knobs=knobs,
        configs=tuple(configs),
        known_objectives=(Known("size", 0.5), Known("latency", 0.5)),
        known=np.array(known),
        learned=(Learned("error", 0.3, scale="log"),),
        validation=validation,
        test=validation[:, -1],
        test_reference=np.array([0.5, 0.5, 0.3]),
        rungs=RUNGS,
        prefixes=tuple(f"{config['width']}" for config in configs),
        prefix_cost=2.0,
    )

"""How many stages a sweep ran of those its trials asked for, from its journal.

A stage is asked for by every trial whose plan holds it; `teacher` counts what the teacher says of the training split,
which every distilling trial asks for. The baseline and the teacher's answers are shared by all trials of a sweep.
Compression stages are not; the last column says how many of them have a prefix of their own.
"""

import argparse
import sys
from pathlib import Path

from dashboards.journal import SweepRecord

EXPECTED = 0.5  # of all executions saved


def count(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Return for baseline stages, teacher's answers and other stages how many were asked for, were run, and differ."""
    trials = [trial for trial in SweepRecord.read(folder).trials.values() if trial.role != "confirmation"]
    prefixes = [(trial.plan.prefixes(), len(trial.plan.baseline)) for trial in trials]
    baseline = [prefix for known, length in prefixes for prefix in known[:length]]
    others = [prefix for known, length in prefixes for prefix in known[length:]]
    teacher = sum(any(stage["kind"] == "distill" for stage in trial.plan.stages) for trial in trials)
    return {
        "baseline stages": (len(baseline), len(set(baseline)), len(set(baseline))),
        "teacher": (teacher, min(teacher, 1), min(teacher, 1)),
        "compression stages": (len(others), len(others), len(set(others))),
    }


def main() -> int:
    """Count, print the table and say whether half was saved."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sweep", type=Path, help="folder of a finished sweep, such as ./sweeps/digits")
    counts = count(parser.parse_args().sweep)
    counts["all"] = tuple(map(sum, zip(*counts.values(), strict=True)))  # type: ignore[assignment]
    print(f"{'':20} {'asked':>6} {'run':>6} {'saved':>6} {'different':>10}")
    for name, (asked, executed, different) in counts.items():
        print(f"{name:20} {asked:6} {executed:6} {1 - executed / max(asked, 1):6.0%} {different:10}")
    asked, executed, _ = counts["all"]
    saved = 1 - executed / asked
    print(f"expected at least {EXPECTED:.0%} saved: {'hit' if saved >= EXPECTED else 'miss'}")
    return 0 if saved >= EXPECTED else 1


if __name__ == "__main__":
    sys.exit(main())

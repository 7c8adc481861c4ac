"""How many stages a sweep ran of those its trials asked for, from its journal.

A stage is asked for by every finished trial whose plan holds it; it was not run where the trial's record says that it
reused it. `teacher` counts what the teacher says of the training split, which every distilling trial asks for and all
share. The last column says how many prefixes differ: no sharing can run fewer stages.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from paretta.dashboards.journal.record import SweepRecord
from paretta.search_spaces.results.trial import Trial

EXPECTED = 0.5  # of all executions saved


def count(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Return for baseline stages, teacher's answers and other stages how many were asked for, were run, and differ."""
    known = SweepRecord.read(folder).trials.values()
    trials = [trial for trial in known if trial.role in ("baseline", "trial") and trial.status == "complete"]
    teacher = sum(any(stage["kind"] == "distill" for stage in trial.plan.stages) for trial in trials)
    baseline = [prefix for trial in trials for prefix in trial.plan.prefixes()[: len(trial.plan.baseline)]]
    others = [prefix for trial in trials for prefix in trial.plan.prefixes()[len(trial.plan.baseline) :]]
    saved_baseline = sum(min(_num_reused(trial), len(trial.plan.baseline)) for trial in trials)
    saved = sum(map(_num_reused, trials))
    return {
        "baseline stages": (len(baseline), len(baseline) - saved_baseline, len(set(baseline))),
        "teacher": (teacher, min(teacher, 1), min(teacher, 1)),
        "compression stages": (len(others), len(others) - saved + saved_baseline, len(set(others))),
    }


def _num_reused(trial: Trial) -> int:
    """Return how many of its first stages a trial had not to carry out."""
    return sum(len(cast(Sequence[str], reused["stages"])) for reused in trial.reused)


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

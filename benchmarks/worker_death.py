"""What the death of a worker costs: from SIGKILL of one of two ranks to the first news of its job's next attempt.

Nothing is trained, so what a checkpoint gives back is not in it. The successor loads what a training loads.
"""

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from paretta.orchestrator.cluster.connect import connect
from paretta.orchestrator.lanes.pool import Job, LaneClient, LanePool, RankContext

EXPECTED = 15.0  # seconds
STAGES = ("until its successor's process", "until that is at work", "in all")


def at_work(payload: Mapping[str, object], rank: RankContext) -> str:
    """Load what a training loads, tell who is at work, and wait for the end on the first attempt."""
    import torch.distributed as dist  # noqa: PLC0415

    import paretta.orchestrator.trials.handler  # noqa: F401, PLC0415

    dist.barrier()
    born = time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - _started_s())
    rank.progress({"pid": os.getpid(), "attempt": rank.attempt, "born": born})
    while rank.attempt == 1:
        time.sleep(0.1)
        dist.barrier()
    return "done"


def _started_s() -> float:
    """Return when this process was forked, in seconds since the machine was started."""
    fields = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return float(fields[19]) / os.sysconf("SC_CLK_TCK")


def killed(client: LaneClient, uid: str) -> dict[str, float]:
    """Kill rank 0 of a job on its first attempt, and return where the time went until the second is at work."""
    client.submit(Job(uid, {}))
    first = _news(client, uid, 0)
    os.kill(int(str(first["pid"])), signal.SIGKILL)
    begun = time.time()
    second = _news(client, uid, 1)
    ended = time.time()
    client.result(uid, timeout_s=60.0)
    born = float(str(second["born"]))
    return dict(zip(STAGES, (born - begun, ended - born, ended - begun), strict=True))


def _news(client: LaneClient, uid: str, seen: int) -> Mapping[str, object]:
    for _ in range(60):
        update = client.wait(uid, seen=seen, timeout_s=5.0)
        if update.progress:
            return update.progress[0]
        assert update.outcome is None, update.outcome
    raise TimeoutError(uid)


def main() -> int:
    """Measure, print the table and say whether the expectation was met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    with (
        tempfile.TemporaryDirectory() as folder,
        connect(num_cpus=2),
        LanePool(at_work, storage=Path(folder), workers_per_lane=2, start_timeout_s=170.0) as lanes,
    ):
        found = [killed(lanes.client, str(number)) for number in range(arguments.kills)]
    if arguments.json is not None:
        document = {"kills": found, "expected": EXPECTED, "load_before": load}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(f"seconds, {arguments.kills} kills; load before {load:.1f}")
    for stage in STAGES:
        seconds = [kill[stage] for kill in found]
        print(f"{stage:30} median {statistics.median(seconds):6.1f}   {min(seconds):6.1f} to {max(seconds):6.1f}")
    worst = max(kill["in all"] for kill in found)
    print(f"expected at most {EXPECTED:g}: {'hit' if worst <= EXPECTED else 'miss'}")
    return 0 if worst <= EXPECTED else 1


if __name__ == "__main__":
    sys.exit(main())

"""Serve a model in a new process, and report its time and memory up to the first answers.

``python -m paretta.pipelines.measuring.cold_start MODEL INPUTS.npz THREADS RUNTIME`` runs it.
"""

import json
import sys
import time
from pathlib import Path

from paretta.pipelines.data.feeds import load_feeds
from paretta.pipelines.runtime import runtime_of
from paretta.search_spaces.objectives.objective import REFERENCE_RUNTIME

PROC_STATUS = Path("/proc/self/status")
NUM_CALLS = 5


def memory_bytes(status: Path, field: str) -> int | None:
    """Return ``VmRSS`` or ``VmHWM`` (its peak) of a process; None if the kernel does not report it.

    It reads the kernel's high-water mark instead of getrusage's, which a process inherits from its parent.
    """
    lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
    values = [int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")]
    return values[0] if values else None


def serve_once(model_path: Path, inputs: Path, threads: int, name: str = REFERENCE_RUNTIME) -> None:
    """Answer the batch in `inputs`, print what it took, and stay until standard input ends."""
    batch, runtime = load_feeds(inputs), runtime_of(name)
    runtime.load()
    before, cpu, wall = memory_bytes(PROC_STATUS, "VmRSS"), time.process_time(), time.perf_counter()
    call = runtime.open(model_path, threads=threads, device="cpu").call(batch)
    call()
    told = {
        "imports_seconds": cpu,
        "seconds": time.process_time() - cpu,
        "wall_seconds": time.perf_counter() - wall,
        "rss_before_bytes": before,
    }
    for _ in range(NUM_CALLS - 1):
        call()
    print(json.dumps({**told, "peak_rss_bytes": memory_bytes(PROC_STATUS, "VmHWM")}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    serve_once(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])

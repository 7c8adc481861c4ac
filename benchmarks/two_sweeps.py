"""Two sweeps on one Ray cluster at once, against one after the other, in one run: ``python -m benchmarks.two_sweeps``.

The cluster is one node of this machine. Both sweeps are the digits preset with the same number of trials and different
seeds, each allowed all lanes that fit. The wall time of both together is compared with the sum of their times alone;
how the lanes were divided is read from what each sweep told.
"""

import argparse
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EXPECTED = 1.1  # at most, of the sum; chosen before the measurement


def begin(seed: int, home: Path, address: str, trials: int) -> subprocess.Popen[str]:
    """Start a sweep whose output is kept beside it."""
    command = [sys.executable, "-m", "paretta", "launch", "digits", "--address", address, "--seed", str(seed)]
    command += ["--trials", str(trials), "--home", str(home)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def ended(sweep: subprocess.Popen[str]) -> str:
    """Wait for a sweep, and return the lines in which it told of its lanes."""
    output, _ = sweep.communicate()
    if sweep.returncode:
        raise SystemExit(f"a sweep failed\n{output}")
    return "; ".join(re.findall(r"(?m)^\s*(\d+ lane\(s\)|waiting for a lane)", output))


def main() -> int:
    """Measure, print the figures and say whether the expectation was met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--cpus", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address, load = f"127.0.0.1:{port}", os.getloadavg()[0]
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        ray = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", f"--port={port}"]
        ray += ["--node-ip-address=127.0.0.1", f"--num-cpus={arguments.cpus}", "--include-dashboard=false"]
        head = subprocess.Popen([*ray, f"--temp-dir={folder / 'ray'}"], stdout=subprocess.DEVNULL)
        try:
            time.sleep(10)
            alone = []
            for seed in (1, 2):
                at = time.monotonic()
                ended(begin(seed, folder / f"alone-{seed}", address, arguments.trials))
                alone.append(time.monotonic() - at)
            at = time.monotonic()
            both = [begin(seed, folder / f"together-{seed}", address, arguments.trials) for seed in (1, 2)]
            lanes = [ended(sweep) for sweep in both]
            together = time.monotonic() - at
        finally:
            head.terminate()
            head.wait()
    ratio = together / sum(alone)
    print(f"alone: {alone[0]:.0f} s and {alone[1]:.0f} s; together: {together:.0f} s; load before {load:.1f}")
    for number, told in enumerate(lanes, 1):
        print(f"lanes of sweep {number}: {told}")
    print(f"{ratio:.2f} of the sum; expected at most {EXPECTED}: {'hit' if ratio <= EXPECTED else 'miss'}")
    return 0 if ratio <= EXPECTED else 1


if __name__ == "__main__":
    sys.exit(main())

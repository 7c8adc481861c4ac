"""CPU seconds of what is typed all day: ``paretta --help``, ``import paretta``, and ``paretta list`` over a home."""

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROUNDS = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path, help="a folder of sweeps; what the list keeps of them is removed first")
    home = parser.parse_args().home
    kept = sorted(home.glob("*/.summary.json"))
    listing = [sys.executable, "-m", "paretta", "list", "--home", str(home)]
    for path in kept:
        path.unlink()
    print(f"{len(list(home.glob('*/journal.jsonl')))} sweeps, load {os.getloadavg()[0]:.1f}; CPU s, least and median")
    print(f"list, every journal read: {cpu_seconds(listing):.3f}")
    for name, command in (
        ("list", listing),
        ("--help", [sys.executable, "-m", "paretta", "--help"]),
        ("import paretta", [sys.executable, "-c", "import paretta"]),
        ("python alone", [sys.executable, "-c", "pass"]),
    ):
        times = [cpu_seconds(command) for _ in range(ROUNDS)]
        print(f"{name}: {min(times):.3f}, {statistics.median(times):.3f}")


def cpu_seconds(command: Sequence[str]) -> float:
    """Return the user and system CPU seconds of one run of a command."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()

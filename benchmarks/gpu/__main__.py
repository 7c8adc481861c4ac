"""Check and time training on one GPU: `python -m benchmarks.gpu --device cuda`, or `--pack FOLDER` to carry it there.

On a machine with torch alone: `PYTHONPATH=FOLDER python -m benchmarks.gpu --device cuda`; it needs no network and ends
within 8 minutes. `--device cpu --quick` rehearses it anywhere.
"""

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.gpu.check import findings
from benchmarks.gpu.pack import pack

LIMIT_S = 360.0  # after which no further check begins, so that all end within 8 minutes


def main() -> int:
    """Run the checks and print their table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--pack", type=Path, help="copy what is needed beside torch to this folder, and say its size")
    parser.add_argument("--quick", action="store_true", help="a smaller network, to rehearse")
    parser.add_argument("--json", type=Path, help="write the findings to this file")
    arguments = parser.parse_args()
    if arguments.pack is not None:
        print(f"{arguments.pack}: {pack(arguments.pack):.0f} MB")
        return 0
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("torch finds no CUDA device here; rehearse with --device cpu --quick")
        return 2
    torch.set_num_threads(1 if arguments.device == "cpu" else torch.get_num_threads())
    name = torch.cuda.get_device_name() if arguments.device == "cuda" else "CPU"
    begun, found = time.perf_counter(), []
    print(f"{name}, torch {torch.__version__}")
    for finding in findings(arguments.device, limit_s=LIMIT_S, quick=arguments.quick):
        found.append(finding)
        state = {True: "ok", False: "FAILED", None: "-"}[finding.ok]
        print(f"{finding.name:28} {state:7} {finding.told}", flush=True)
    print(f"{time.perf_counter() - begun:.0f} s")
    if arguments.json is not None:
        document = {"device": name, "torch": torch.__version__, "findings": [asdict(finding) for finding in found]}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 0 if all(finding.ok is not False for finding in found) else 1


if __name__ == "__main__":
    sys.exit(main())

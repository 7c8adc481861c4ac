"""Run a benchmark in two processes that train together over gloo."""

import json
import os
import subprocess
import sys
import tempfile
from argparse import SUPPRESS, ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.distributed as dist

from paretta.pipelines.ranks import Ranks

ROOT = Path(__file__).parents[2]


def add_rank_arguments(parser: ArgumentParser) -> None:
    """Let a parser take `rank` and `folder`, which `found_on_two_ranks` gives to each process."""
    parser.add_argument("--rank", type=int, help=SUPPRESS)
    parser.add_argument("--folder", type=Path, help=SUPPRESS)


def be_a_rank(rank: int, folder: Path, work: Callable[[Ranks], object]) -> NoReturn:
    """Do `work` as one of two ranks of one thread each, and end the process; rank 0 writes what it returns."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    found = work(Ranks.joined())
    if rank == 0:
        (folder / "found.json").write_text(json.dumps(found), encoding="utf-8")
    leave()


def leave() -> NoReturn:
    """End this rank's process once all ranks have come this far."""
    dist.barrier()
    os._exit(0)  # a gloo thread that frees its last tensor while the interpreter ends would abort it


def found_on_two_ranks(
    module: str, arguments: Sequence[str] = (), *, environment: Mapping[str, str] | None = None
) -> Any:
    """Run a module as two ranks and return what rank 0 has found.

    Args:
        module: it calls `be_a_rank` if it is given a rank.
        arguments: further ones.
        environment: variables on top of this process' own.
    """
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, "-m", module, "--folder", name, *arguments]
        variables = {**os.environ, **(environment or {})}
        ranks = [subprocess.Popen([*command, "--rank", str(rank)], env=variables, cwd=ROOT) for rank in range(2)]
        if [rank.wait() for rank in ranks] != [0, 0]:
            raise SystemExit("a rank failed")
        return json.loads((Path(name) / "found.json").read_text(encoding="utf-8"))

"""Two processes of one process group: a test starts its own file twice, and each run of the file joins the group."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist

from paretta.pipelines.ranks import Ranks


def run_on_two_ranks(script: str, folder: Path) -> None:
    """Run `script` as two processes that call `be_a_rank`; raise AssertionError where one of them fails."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen([sys.executable, "-W", "error", script, str(rank), str(folder)], env=environment)
        for rank in range(2)
    ]
    assert [rank.wait(timeout=290) for rank in ranks] == [0, 0]


def be_a_rank(work: Callable[[Ranks, Path], None]) -> None:
    """Do `work` as the rank, and with the folder, that the command line names; then leave the process."""
    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    work(Ranks.joined(), folder)
    dist.barrier()
    sys.stdout.flush()
    # not by sys.exit: a gloo thread that lets its last tensor go while the interpreter is torn down aborts the process
    os._exit(0)

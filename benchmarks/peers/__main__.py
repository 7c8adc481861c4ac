"""The same weights through each tool, timed in one run: ``python -m benchmarks.peers --home FOLDER``.

Every tool gets the fp32 file of the trained network and the same 256 samples. It runs in an environment of its own,
which is made below `--home` at the first run. All files of a row are timed in turn in one process, on one thread.
The results are written to ``results.json`` there; ``--page`` writes ``docs/peers.md`` from them.
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.peers.duel import BATCHES, accuracy, duel, ratio_of, runs_there
from benchmarks.peers.environments import NBITS, NNCF, STATIC, Peer
from benchmarks.peers.models import task_of
from benchmarks.peers.page import page_of
from paretta.pipelines.artifact import MODEL
from paretta.pipelines.export.to_onnx import to_bytes
from paretta.pipelines.measuring.served_meter import machine
from paretta.pipelines.ranks import Ranks
from paretta.pipelines.run import run
from paretta.pipelines.runtime import runtime_of
from paretta.search_spaces.canonical import Document
from paretta.search_spaces.space.plan import Plan

NUM_SAMPLES: Final = 256
OURS: Final = "paretta"
PAGE: Final = Path(__file__).parents[2] / "docs" / "peers.md"


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison.

    Args:
        network: of `models.NETWORKS`.
        stages: our plan.
        peers: the other tools.
        runtimes: where all files are timed.
    """

    network: str
    stages: tuple[Document, ...]
    peers: tuple[Peer, ...]
    runtimes: tuple[str, ...] = ("onnxruntime",)

    @property
    def user_lines(self) -> int:
        """The lines of our plan: its task, and one for each stage."""
        return 1 + len(self.stages)


ROWS: Final = {
    "int8": Row("resnet_8", ({"kind": "quantize", "bits": 8},), (STATIC, NNCF), ("onnxruntime", "openvino")),
    "4 bit": Row("mlp", ({"kind": "quantize", "bits": 4, "activation_bits": 32},), (NBITS,)),
    "4 bit, int8 values": Row("mlp", ({"kind": "quantize", "bits": 4},), (NBITS,)),
}


def main() -> None:
    """Run the rows and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="where environments, data and files are kept")
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--page", action="store_true", help="write docs/peers.md from the results")
    given = parser.parse_args()
    results = given.home / "results.json"
    found = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    if not given.page:
        for name in given.rows:
            found[name] = compared(ROWS[name], given.home, name)
            results.write_text(json.dumps(found, indent=1), encoding="utf-8")
    text = page_of(found)
    print(text)
    if given.page:
        PAGE.write_text(text, encoding="utf-8")


def compared(row: Row, home: Path, name: str) -> Document:
    """Make the files of a row and compare them in each runtime."""
    task = task_of(row.network, home)
    folder = home / name.replace(" ", "-").replace(",", "")
    folder.mkdir(parents=True, exist_ok=True)
    train, test = (np.asarray(split.tensors[0]) for split in (task.train, task.test))
    labels = np.asarray(task.test.tensors[1])
    np.savez(folder / "samples.npz", input=train[:NUM_SAMPLES])
    source = folder / "fp32.onnx"
    source.write_bytes(to_bytes(task.new_model(), task.example_input))
    files, walls, lines = {"fp32": source}, {"fp32": 0.0}, {"fp32": 0}
    for peer in row.peers:
        path, begun = folder / f"{peer.environment}.onnx", time.perf_counter()
        peer.make(source, folder / "samples.npz", path, home)
        files[peer.title], walls[peer.title], lines[peer.title] = path, time.perf_counter() - begun, peer.user_lines
    own: dict[str, str] = {}
    for runtime in row.runtimes:
        runtimes = () if runtime == "onnxruntime" else (runtime,)
        own[runtime], begun = f"{OURS} ({runtime})", time.perf_counter()
        made = folder / f"ours-{runtime}"
        run(Plan(tuple(row.stages)), task, seed=0, ranks=Ranks.alone(), folder=made, runtimes=runtimes)
        files[own[runtime]], lines[own[runtime]] = made / MODEL, row.user_lines
        walls[own[runtime]] = time.perf_counter() - begun
    report: Document = {"network": row.network, "machine": machine(), "runtimes": {}}
    inputs = {"input": test}
    for runtime in row.runtimes:
        taking = {title: path for title, path in files.items() if title == own[runtime] or title not in own.values()}
        refused = {title: why for title, path in taking.items() if (why := runs_there(path, inputs, runtime))}
        running = {title: path for title, path in taking.items() if title not in refused}
        titles = list(running)
        rounds = duel(list(running.values()), inputs, runtime)
        table = {}
        for side, (title, path) in enumerate(running.items()):
            table[title] = {
                "bytes": path.stat().st_size,
                "accuracy": asdict(accuracy(path, test, labels, runtime)),
                "times": {str(size): asdict(ratio_of(rounds[size], side, 0)) for size in BATCHES},
                "milliseconds": {str(size): 1e3 * rounds[size].seconds(side) for size in BATCHES},
                "seconds_to_make": walls[title],
                "user_lines": lines[title],
            }
            if title == own[runtime]:
                table[title]["over"] = {
                    other: {str(size): asdict(ratio_of(rounds[size], side, titles.index(other))) for size in BATCHES}
                    for other in titles
                    if other not in ("fp32", title)
                }
        report["runtimes"][runtime] = {"version": runtime_of(runtime).version(), "files": table, "refused": refused}
    report["peers"] = {peer.title: list(peer.requirements) for peer in row.peers}
    return report


if __name__ == "__main__":
    main()

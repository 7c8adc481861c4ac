"""ResNet-8 on real pictures: bytes at equal accuracy against other tools' files under xz.

    python examples/emoji/fetch.py
    python -m benchmarks.ladder.pictures --home FOLDER [--seeds 0 1 2] [--json FILE]

The row ``resnet-8-bits`` is trained and delivered; the same trained network in floats goes through ONNX Runtime's
static quantiser and NNCF's 4-bit weight compression, each in an environment of its own below `--home`, and their files
through xz at its strongest. Accuracy is each file's in ONNX Runtime, on validation and test pictures.
"""

import argparse
import json
import lzma
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime
import torch

from benchmarks.ladder.rows import COMPRESSED, UNCOMPRESSED, model_of, outcomes_of, task_of
from benchmarks.peers.environments import NNCF_INT4, STATIC
from paretta.orchestrator.config.sweep import Sweep
from paretta.pipelines.artifact import MODEL
from paretta.pipelines.data.refusals import REFUSALS
from paretta.pipelines.data.samples import num_samples
from paretta.pipelines.ranks import use_threads
from paretta.pipelines.state.cache import Cache
from paretta.pipelines.task import Split, Task

EXPECTED, NUM_SAMPLES = 3.0, 256  # times fewer bytes than the smallest peer; samples that peers calibrate on
ROW = Path(__file__).with_name("resnet-8-bits.yaml")


@dataclass(frozen=True, slots=True)
class Line:
    """A file of one seed: its bytes as sent, and its errors in percent; None if ONNX Runtime cannot run it."""

    seed: int
    name: str
    sent: int
    validation_error: float | None
    test_error: float | None


def main() -> int:
    """Train, let the peers work, print the table and say whether the expectation was met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True, help="where environments and baselines are kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    use_threads(1)
    print(f"{'':26}{'seed':>5}{'bytes':>10}{'validation':>13}{'test':>13}")
    lines: list[Line] = []
    for seed in arguments.seeds:
        begun = time.perf_counter()
        with TemporaryDirectory() as folder:
            found = compared(seed, arguments.home, Path(folder))
        print("\n".join(map(told, found)), f"\nseed {seed}: {time.perf_counter() - begun:.0f} s", flush=True)
        lines += found
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(line) for line in lines], indent=2), encoding="utf-8")
    sent = {name: np.mean([line.sent for line in lines if line.name == name]) for name in (line.name for line in lines)}
    ratio = min(size for name, size in sent.items() if name not in (COMPRESSED, UNCOMPRESSED)) / sent[COMPRESSED]
    print(f"{ratio:.1f} times fewer bytes than the smallest other file, in the mean; expected at least {EXPECTED:g}")
    return 0 if ratio >= EXPECTED else 1


def told(line: Line) -> str:
    """Return a row of the table."""
    errors = (line.validation_error, line.test_error)
    words = "".join("  does not run" if error is None else f"{error:>11.2f} %" for error in errors)
    return f"{line.name:26}{line.seed:>5}{line.sent:>10,}{words}"


def compared(seed: int, home: Path, folder: Path) -> list[Line]:
    """Return what each tool makes of one seed's network."""
    sweep = Sweep.read(str(ROW))
    task = task_of(sweep)
    outcomes = outcomes_of(sweep, task, seed, Cache(home / "cache"), folder)
    models = [model_of(name, outcome, task) for name, outcome in outcomes.items()]
    lines = [Line(seed, m.name, int(m.coded_size), m.validation_error, m.test_error) for m in models]
    source, samples = outcomes[UNCOMPRESSED].folder / MODEL, folder / "samples.npz"
    drawn = torch.randperm(task.num_train, generator=torch.Generator().manual_seed(seed))[:NUM_SAMPLES]
    np.savez(samples, input=task.calibration_inputs(drawn))
    for peer in (STATIC, NNCF_INT4):
        path = folder / f"{Path(peer.script).stem}.onnx"
        peer.make(source, samples, path, home)
        sent = len(lzma.compress(path.read_bytes(), preset=9 | lzma.PRESET_EXTREME))
        lines.append(
            Line(seed, f"{peer.title}, xz", sent, _error(path, task, "validation"), _error(path, task, "test"))
        )
    return lines


def _error(path: Path, task: Task, split: Split) -> float | None:
    pictures = task.split(split)
    images, labels = task.batch(pictures, torch.arange(num_samples(pictures)))
    try:
        (answers,) = onnxruntime.InferenceSession(path).run(None, {"input": np.asarray(images)})
    except REFUSALS:
        return None
    return float(100 * (np.asarray(answers).argmax(1) != np.asarray(labels)).mean())


if __name__ == "__main__":
    sys.exit(main())

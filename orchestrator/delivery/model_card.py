"""The model card of a pulled folder: what the model is, its numbers and their limits, and how to load it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from paretta.dashboards.journal.summary import roles
from paretta.search_spaces.canonical import Document, Json
from paretta.search_spaces.objectives.reading import Reading
from paretta.search_spaces.quantities import format_quantity
from paretta.search_spaces.results.front import Front
from paretta.search_spaces.results.note import Note
from paretta.search_spaces.results.trial import Trial

if TYPE_CHECKING:
    from paretta.pipelines.artifact import Artifact

_LOAD = """```python
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
print(session.run(None, {inputs}))
```"""
_GENERATE = """## Generate text

Each call takes the keys and values of the tokens before and returns those of all, so that no token is computed twice:

```python
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])


def generate(ids, count):
    past = [node for node in session.get_inputs() if node.name.startswith("past_key_values.")]
    cache = {node.name: np.zeros((1, node.shape[1], 0, node.shape[3]), np.float32) for node in past}
    new = ids
    for _ in range(count):
        mask = np.ones((1, len(ids)), np.int64)
        logits, *present = session.run(None, {"input_ids": [new], "attention_mask": mask, **cache})
        cache, new = dict(zip(cache, present)), [int(logits[0, -1].argmax())]
        ids = ids + new
    return ids
```

`generate(ids, 20)` appends 20 tokens, each the most probable one, to a list of token ids. The tokenizer beside the
model makes them of a text, and a text of them."""
_TEST = "test_"  # begins the names of the test split's readings in an artifact
_STORED = 'dict(np.load("sample.npz"))'


@dataclass(frozen=True, slots=True)
class Provenance:
    """The trial that a pulled folder is of, and the front of its sweep."""

    trial: Trial
    front: Front


def write_card(folder: Path, origin: Provenance | None = None) -> None:
    """Write README.md into a delivered folder; the manifest does not cover it, so that people may go on with it.

    Args:
        folder: a complete artifact.
        origin: where it comes from; None if only the folder itself is known.
    """
    from paretta.pipelines.artifact import CARD, open_artifact  # noqa: PLC0415 - ONNX Runtime is loaded only to deliver

    (folder / CARD).write_text(model_card(open_artifact(folder), origin), encoding="utf-8")


def model_card(artifact: "Artifact", origin: Provenance | None = None) -> str:
    """Return the card as Markdown."""
    parts = [
        f"# {_title(artifact, origin)}",
        _what(artifact, origin),
        _numbers(artifact, origin),
        "## What the numbers do not say",
        "\n".join(f"- {limit}" for limit in _limits(artifact, origin)),
        "## Load it",
        "This needs only `pip install onnxruntime`:",
        _LOAD.replace("{inputs}", _STORED if "sample.npz" in artifact.digests else "inputs"),
        _interface(artifact),
        *_generating(artifact),
        "## Preprocessing",
        _preprocessing(artifact),
        "## Layers",
        _layers(artifact),
        "## How it was made",
        _recipe(artifact),
    ]
    return "\n\n".join(parts) + "\n"


def _title(artifact: "Artifact", origin: Provenance | None) -> str:
    return f"{origin.front.sweep} {origin.trial.uid}" if origin else artifact.folder.name


def _what(artifact: "Artifact", origin: Provenance | None) -> str:
    size = format_quantity(artifact.model_path.stat().st_size, "B")
    words = origin.trial.words if origin else ", ".join(str(stage.get("kind")) for stage in artifact.plan.stages)
    made = f"made by: {words}" if words else "the uncompressed model"
    place = ""
    if origin is not None:
        held = roles(origin.front).get(origin.trial.uid, ())
        on_front = origin.trial.uid in {trial.uid for trial in origin.front}
        where = "a point on the front" if on_front else "a trial off the front"
        place = f" It is {', '.join(held) if held else where} of the sweep {origin.front.sweep!r}."
    return f"An ONNX model of {size}, {made}.{place}"


def _numbers(artifact: "Artifact", origin: Provenance | None) -> str:
    baseline = origin.front.baseline if origin else None
    rows = [
        (_label(name, reading), reading, _reading_of(baseline, name)) for name, reading in _chosen_by(artifact).items()
    ]
    tests = _tests(artifact, origin).items()
    rows += [(f"{name} (test)", reading, _test_of(baseline, name)) for name, reading in tests]
    lines = [(name, str(reading), "" if other is None else str(other)) for name, reading, other in rows]
    if baseline is None:
        return _table(("reading", "value"), [line[:2] for line in lines])
    return _table(("reading", "this model", "uncompressed"), lines)


def _label(name: str, reading: Reading) -> str:
    return f"{name} (validation)" if reading.unit == "share" and reading.num_samples > 1 else name


def _chosen_by(artifact: "Artifact") -> dict[str, Reading]:
    """Return the readings that a search may have chosen by: all but those of the test split."""
    return {name: reading for name, reading in artifact.readings.items() if not name.startswith(_TEST)}


def _tests(artifact: "Artifact", origin: Provenance | None) -> Mapping[str, Reading]:
    """Return the readings of the test split."""
    stored = {name.removeprefix(_TEST): r for name, r in artifact.readings.items() if name.startswith(_TEST)}
    return stored if origin is None else {**stored, **origin.trial.test_readings}


def _reading_of(trial: Trial | None, name: str) -> Reading | None:
    return None if trial is None else trial.readings.get(name)


def _test_of(trial: Trial | None, name: str) -> Reading | None:
    return None if trial is None else trial.test_readings.get(name)


def _limits(artifact: "Artifact", origin: Provenance | None) -> Iterator[str]:
    readings = _chosen_by(artifact)
    if any(reading.low is not None for reading in readings.values()):
        yield "Brackets are 95 % intervals. They cover the noise of measuring and of the samples, not another seed."
    for name, reading in readings.items():
        if "cpu" in reading.details:
            machine = ", ".join(str(reading.details[key]) for key in ("machine", "cpu") if reading.details.get(key))
            yield f"{name} was measured on {machine}; on other processors it is another number."
        if reading.details.get("contended"):
            yield f"{name} was read while other work disturbed the machine."
        if reading.value is None:
            yield f"{name} was not measured: {reading.reason}"
    counted = [f"{name} of {r.num_samples}" for name, r in readings.items() if r.unit == "share" and r.num_samples > 1]
    if counted:
        chosen = "the search chose by them" if origin else "a search may have chosen by them"
        yield f"Validation samples: {', '.join(counted)}; {chosen}, so the same number on new data tends to be lower."
    yield from _overflowing(artifact)
    if not _tests(artifact, origin):
        yield "The test split was not read for this trial: it is read only for members of the final front."
    yield from (f"{note}." for note in _notes(artifact))


def _overflowing(artifact: "Artifact") -> Iterator[str]:
    from paretta.pipelines.kernels.saturation import num_overflowing  # noqa: PLC0415 - as above

    if found := num_overflowing(artifact.model_path):
        layers = "A layer" if found == 1 else f"{found} layers"
        yield (
            f"{layers} with 8-bit weights may answer wrongly on x86 processors without VNNI instructions, whose "
            "integer kernels overflow; `{kind: quantize, reduce_range: true}` makes a model for them."
        )


def _notes(artifact: "Artifact") -> list[Note]:
    return [Note.from_document(note) for note in cast(Sequence[Document], artifact.manifest.get("notes", ()))]


def _interface(artifact: "Artifact") -> str:
    session = artifact.session()
    rows = [
        (side, f"`{node.name}`", node.type.removeprefix("tensor(").removesuffix(")"), _shape(node.shape))
        for side, nodes in (("input", session.get_inputs()), ("output", session.get_outputs()))
        for node in nodes
    ]
    stored = "`sample.npz` holds one input of the validation split. " if "sample.npz" in artifact.digests else ""
    return f"{stored}Sizes by name are free.\n\n{_table(('', 'name', 'type', 'shape'), rows)}"


def _generating(artifact: "Artifact") -> Iterator[str]:
    from paretta.pipelines.data.decoder_feeds import generates  # noqa: PLC0415 - as above

    if generates(node.name for node in artifact.session().get_inputs()):
        yield _GENERATE


def _shape(sizes: Iterable[object]) -> str:
    return f"[{', '.join('free' if size is None else str(size) for size in sizes)}]"


def _preprocessing(artifact: "Artifact") -> str:
    from paretta.pipelines.artifact import FILES, SAMPLE  # noqa: PLC0415 - ONNX Runtime is loaded only to deliver

    files = sorted(set(artifact.digests) - {*FILES, SAMPLE})
    named = artifact.task and not artifact.task.endswith(".pkl")  # a task from a notebook has no name
    as_task = f"Inputs are what the task `{artifact.task}` gives" if named else "Inputs are what the task gives"
    if files:
        listed = ", ".join(f"[`{name}`]({name})" for name in files)
        return f"{as_task}; its files beside the model say how they are made from raw data: {listed}."
    return f"{as_task}; it delivered no file that says how they are made from raw data (`Task(files=...)`)."


def _layers(artifact: "Artifact") -> str:
    layers = cast("Mapping[str, Document]", artifact.manifest.get("layers", {}))
    if not layers:
        return "The manifest has no facts on layers."
    rows = [
        (f"`{name}`", _shape(cast("Sequence[object]", facts.get("shape", ()))), *_facts(facts))
        for name, facts in layers.items()
    ]
    table = _table(("weight", "shape", "bits", "bits in the file", "zeros", "computes in"), rows)
    return f"{table}\n\nBits in the file include what is needed to unpack them."


def _facts(facts: Mapping[str, Json]) -> tuple[str, str, str, str]:
    stored, zeros, floats = facts.get("stored"), facts.get("sparsity"), facts.get("in_floats")
    kernel = f" ({facts['kernel']})" if facts.get("kernel") else ""
    share = f"{zeros:.1%}".replace("%", " %") if isinstance(zeros, int | float) else ""
    computes = f"floats: {floats}" if floats else "integers"
    return str(facts.get("bits", "")), "" if stored is None else str(stored), share, f"{computes}{kernel}"


def _recipe(artifact: "Artifact") -> str:
    versions = ", ".join(f"{name} {version}" for name, version in sorted(artifact.versions.items()))
    return (
        f"By `plan.yaml`, seed {artifact.seed}, on data `{artifact.data_digest[:23]}`, with {versions}. Where the task "
        "is at hand, `paretta run plan.yaml --to again` makes it again.\n\n"
        "All numbers of this page are from `readings.json`, `manifest.json` and the sweep's journal; "
        "`paretta verify .` checks the files against their SHA-256. This page is not among them."
    )


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)

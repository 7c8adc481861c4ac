"""The example notebook is executed as a user would: its function travels, its front shows itself."""

import json
import re
from pathlib import Path

import pytest

from paretta.orchestrator.sweeps.result import SweepFront

NOTEBOOK = Path(__file__).parents[2] / "examples" / "notebook" / "digits.ipynb"


def test_the_tutorial_shows_what_the_notebook_runs() -> None:
    page = (NOTEBOOK.parents[2] / "docs" / "tutorials" / "notebook.md").read_text(encoding="utf-8")
    shown = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    cells = "\n".join("".join(cell["source"]) for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"])
    assert len(shown) == 3
    assert [block for block in shown if block.strip() not in cells] == []


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient", reason="pip install 'paretta[notebook]'")
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=280, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    front = SweepFront.read(tmp_path / "sweeps" / "notebook")
    assert front.baseline is not None
    assert sum(trial.role == "trial" and trial.has_ended for trial in front.trials) == 4
    shown = {cell["id"]: cell["outputs"] for cell in notebook.cells if cell["cell_type"] == "code"}
    (launched,) = [outputs for outputs in shown.values() if any("<img" in _html(output) for output in outputs)]
    assert '<progress max="4" value="4"' in _html(launched[0])
    assert all(trial.uid in _html(launched[-1]) for trial in front)
    assert (tmp_path / "best" / "README.md").read_text(encoding="utf-8").startswith("# notebook ")


def _html(output: dict[str, dict[str, str]]) -> str:
    return output.get("data", {}).get("text/html", "")

import json
import random
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from synthetic_sweep import write_sweep

from paretta.dashboards.journal.journal import Journal
from paretta.dashboards.report.html_report import render, report_data, write_report
from paretta.search_spaces.errors import WrongInput
from paretta.search_spaces.results.front import Front

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync", "--disable-quic", "--virtual-time-budget=4000"]
browser = pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed")


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.data, self.addresses, self.tags, self._inside = "", [], [], None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.addresses += [given[name] for name in ("src", "href", "action", "data") if name in given]
        self._inside = given.get("id")

    def handle_data(self, data: str) -> None:
        if self._inside == "data":
            self.data += data
        self._inside = None


def _open(page: Path, budget: int = 60) -> str:
    assert CHROMIUM
    profile = f"--user-data-dir={page.parent / 'profile'}"
    command = [CHROMIUM, *FLAGS, profile, "--dump-dom", page.as_uri()]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=budget).stdout


def test_page_carries_its_data_and_asks_for_nothing_else(tmp_path: Path) -> None:
    record = write_sweep(tmp_path / "s", trials=30, artifacts=False)
    write_report(record, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    page = _Page(text)
    assert json.loads(page.data) == report_data(record)
    assert page.addresses == ["#choose"]
    assert not re.search(r"https?://|@import|url\(|fetch\(|XMLHttpRequest|\bimport\(", text)
    assert page.tags.count("script") == 2


def test_text_of_a_trial_cannot_leave_its_place(tmp_path: Path) -> None:
    record = write_sweep(tmp_path / "s", trials=3, artifacts=False)
    evil = "</script><script>document.title='taken'</script><!--"
    page = _Page(render({**report_data(record), "sweep": evil, "story": evil}))
    assert page.tags.count("script") == 2
    assert json.loads(page.data)["story"] == evil


def test_page_of_500_trials_is_below_a_megabyte(tmp_path: Path) -> None:
    write_report(write_sweep(tmp_path / "s", trials=500, artifacts=False), tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 1_000_000


def test_equal_records_make_equal_pages(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_report(write_sweep(tmp_path / name / "s", trials=20, artifacts=False), tmp_path / f"{name}.html", at="")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


@pytest.mark.parametrize("trials", [0, 1])
def test_page_of_a_sweep_that_just_began_is_made(tmp_path: Path, trials: int) -> None:
    record = write_sweep(tmp_path / "s", trials=trials, finished=False, artifacts=False)
    with Journal(record.folder):
        assert json.loads(_Page(render(report_data(record))).data)["status"] == "running"
    assert json.loads(_Page(render(report_data(record))).data)["status"] == "died"


_ASKED = """
<script>
const wishes = JSON.parse(document.getElementById("wishes").textContent), goals = app.objectives;
const chosen = wishes.map(([prefer, limits]) => (choose(app.members, limits, prefer, goals) || { uid: null }).uid);
const commands = app.members.map(t => { const w = wishFor(t, app.members, app.objectives);
  return [t.uid, pullCommand("s", app.data.at, w.limits, w.prefer, app.objectives)]; });
document.body.replaceChildren(element("pre", { id: "answers" }, JSON.stringify({ chosen, commands })));
</script>"""


def _limits(front: Front, values: list[float | None]) -> dict[str, dict[str, str | float]]:
    sides: dict[str, dict[str, str | float]] = {"at_least": {}, "at_most": {}}
    for objective, value in zip(front.objectives, values, strict=True):
        if value is not None:
            sides["at_most" if objective.goal == "min" else "at_least"][objective.meter] = value
    return sides


@browser
@pytest.mark.slow
def test_page_chooses_as_pull_does_and_its_commands_name_each_point(tmp_path: Path) -> None:
    record = write_sweep(tmp_path / "s", trials=120, artifacts=False)
    front, rng = record.front(), random.Random(4)
    wishes = []
    for _ in range(60):
        at = [rng.choice(front.members).value(o.meter) if rng.random() < 0.6 else None for o in front.objectives]
        wishes.append((rng.choice(["knee", "size", "latency", "accuracy"]), at))
    expected = []
    for prefer, values in wishes:
        try:
            expected.append(front.pick(prefer=prefer, **_limits(front, values)).uid)  # type: ignore[arg-type]
        except WrongInput:
            expected.append(None)
    carried = f'<script type="application/json" id="wishes">{json.dumps(wishes)}</script>'
    page = tmp_path / "asked.html"
    page.write_text(render(report_data(record, at="")).replace("</body>", f"{carried}{_ASKED}</body>"))
    found = re.search(r'<pre id="answers">(.*?)</pre>', _open(page), re.DOTALL)
    assert found, "the page stopped with an error"
    answers = json.loads(found[1])
    assert answers["chosen"] == expected
    assert {uid for uid, _ in answers["commands"]} == {trial.uid for trial in front}
    for uid, command in answers["commands"]:
        assert _pulled(front, command) == uid


def _pulled(front: Front, command: str) -> str:
    """Answer the command line as `paretta pull` does."""
    words = command.split()
    assert words[:3] == ["paretta", "pull", "s"]
    assert words[-2:] == ["--to", "./model"]
    sides: dict[str, dict[str, str | float]] = {"--at-least": {}, "--at-most": {}}
    prefer = "knee"
    for option, value in zip(words[3:-2:2], words[4:-2:2], strict=True):
        if option == "--prefer":
            prefer = value
        else:
            meter, _, limit = value.partition("=")
            sides[option][meter] = limit
    return front.pick(prefer=prefer, at_least=sides["--at-least"], at_most=sides["--at-most"]).uid


@browser
@pytest.mark.slow
def test_page_draws_tables_of_the_front_the_failures_and_the_cost(tmp_path: Path) -> None:
    record = write_sweep(tmp_path / "s", trials=120, artifacts=False)
    write_report(record, tmp_path / "report.html")
    dom = _open(tmp_path / "report.html")
    rows = re.search(r'<table id="front">.*?</table>', dom, re.DOTALL)
    assert rows
    uids = re.findall(r'class="quiet">([^<]+)</button><br', rows[0])
    assert uids == [trial.uid for trial in record.front()]
    for trial in record.trials.values():
        if trial.reason:
            assert trial.reason in dom
    assert f"Trial {record.front().knee().uid}" in dom
    assert dom.count("<canvas") == 8
    listed = re.search(r'<table id="trials">.*?</table>', dom, re.DOTALL)
    assert listed
    assert listed[0].count("<tr>") == 1 + len(record.trials)

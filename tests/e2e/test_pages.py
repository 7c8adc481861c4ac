"""The pages in a real browser, with a picture of each in ``screenshots/``."""

import lzma
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path

import pytest
from chromium import CHROMIUM, DRIVER, close_assistant, open_chromium, picture, wait, wait_for_text
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait
from synthetic_sweep import write_sweep

from paretta.dashboards.journal.journal import Journal, annotate
from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.report.html_report import write_report
from paretta.dashboards.server.board import open_board, open_mlflow
from paretta.dashboards.tracking.publisher import publish_sweep
from paretta.dashboards.tracking.sync_status import read_sync_status
from paretta.dashboards.tracking.views import plain_link, run_link, view_link

PICTURES = Path(__file__).parents[2] / "screenshots"
RECORDED = Path(__file__).parents[1] / "dashboards" / "recorded"
REAL = sorted(RECORDED.glob("*.jsonl.xz"))
# MLflow 3.17 asks SQLAlchemy 2.1 for a loader strategy that is on its way out.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning"),
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="Debian's chromium and chromium-driver are not installed"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    PICTURES.mkdir(exist_ok=True)
    with open_chromium() as driver:
        yield driver


def _picture(browser: Chrome, name: str, height: int = 1000) -> None:
    picture(browser, PICTURES / f"{name}.png", height)


def _complaints(browser: Chrome) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


@contextmanager
def _screen(browser: Chrome, width: int, scheme: str = "light") -> Iterator[None]:
    """Show pages on a screen of this width, below 500 px a telephone's."""
    screen = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    wanted = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": wanted})
    try:
        yield
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def _too_wide(browser: Chrome) -> list[str]:
    """Return what is wider than the screen, and what can be scrolled sideways, with all that is folded unfolded."""
    return browser.execute_script(  # type: ignore[no-any-return]
        "document.querySelectorAll('details').forEach(details => { details.open = true; });"
        "const name = e => `${e.tagName} ${e.id || e.className}`;"
        "const all = [...document.querySelectorAll('body, body *:not(script, style)')]"
        ".filter(e => e.checkVisibility());"
        "const wide = all.filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.skip'));"
        "const scrolls = all.filter(e => e.scrollWidth > e.clientWidth + 1"
        " && ['auto', 'scroll'].includes(getComputedStyle(e).overflowX));"
        "const page = document.documentElement.scrollWidth > innerWidth ? ['the page'] : [];"
        "return [...page, ...wide.map(e => `${name(e)} is wide`), ...scrolls.map(e => `${name(e)} scrolls`)]"
    )


def _pointed(browser: Chrome) -> str:
    return browser.find_element(By.CSS_SELECTOR, "#picked .answer").text


def test_report_answers_the_keyboard_in_light_and_dark(browser: Chrome, tmp_path: Path) -> None:
    wishes = {"phone": {"prefer": "accuracy", "at_most": {"size": "20kB"}}}
    limits = [{"meter": "accuracy", "at_least": {"below_baseline": "12%"}}]
    record = write_sweep(tmp_path / "digits", trials=120, artifacts=False, wishes=wishes, limits=limits)
    write_report(record, tmp_path / "report.html", at="")
    front = record.front()
    browser.get((tmp_path / "report.html").as_uri())
    assert front.knee().uid in _pointed(browser)
    slider = browser.find_element(By.CSS_SELECTOR, "input[aria-label='size, at most']")
    slider.send_keys(*[Keys.ARROW_LEFT] * 120)
    assert browser.find_element(By.CSS_SELECTOR, "#picked code").text.count("--at-most size=") == 1
    assert front.knee().uid not in _pointed(browser)
    browser.find_element(By.CSS_SELECTOR, "#prefer input[value=accuracy]").send_keys(Keys.SPACE)
    plot = browser.find_element(By.CSS_SELECTOR, "#plots canvas")
    plot.send_keys(Keys.ARROW_RIGHT, Keys.ENTER, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ENTER)
    assert len(browser.find_elements(By.CSS_SELECTOR, "#compare thead button")) == 2
    compared = browser.find_element(By.ID, "compare").text
    heads = browser.find_element(By.CSS_SELECTOR, "#compare thead").text
    for layers in (trial.layers for uid, trial in record.trials.items() if uid in heads):
        assert f"{layers['conv1']['bits']} bits" in compared  # type: ignore[index, call-overload]
    assert "train by baseline" in compared
    browser.find_element(By.CSS_SELECTOR, ".axes button.target").send_keys(Keys.ARROW_DOWN)
    assert "trials kept" in browser.find_element(By.ID, "brushed").text
    assert "accuracy at least the baseline - 12 points" in browser.find_element(By.ID, "sweep-limits").text
    assert "phone" in browser.find_element(By.ID, "front").text
    _picture(browser, "report", 1500)
    browser.find_element(By.ID, "theme").send_keys(Keys.ENTER, Keys.ENTER)
    _picture(browser, "report-dark", 2600)
    assert _complaints(browser) == []


def test_any_trial_is_found_pulled_and_compared(browser: Chrome, tmp_path: Path) -> None:
    record = write_sweep(tmp_path / "digits", trials=60, artifacts=False)
    write_report(record, tmp_path / "report.html", at="")
    front = {trial.uid for trial in record.front()}
    dominated = next(t for t in record.trials.values() if t.status == "complete" and t.uid not in front and t.number)
    browser.get((tmp_path / "report.html").as_uri())
    browser.find_element(By.CSS_SELECTOR, "#all-trials input[type=search]").send_keys(dominated.uid)
    (row,) = browser.find_elements(By.CSS_SELECTOR, "#trials tbody tr")
    row.find_element(By.TAG_NAME, "button").click()
    command = browser.find_element(By.CSS_SELECTOR, "#picked code").text
    assert command == f"paretta pull digits@{dominated.uid} --to ./model"
    layers = browser.find_element(By.ID, "layers").text
    before, after = (record.trials[uid].layers["conv1"] for uid in ("baseline", dominated.uid))
    assert isinstance(before, dict)
    assert isinstance(after, dict)
    assert "→ " + "×".join(map(str, after["shape"])) in layers or before["shape"] == after["shape"]
    assert f"32 → {after['bits']}" in layers
    browser.find_element(By.CSS_SELECTOR, f"#trials input[data-uid='{dominated.uid}']").click()
    search = browser.find_element(By.CSS_SELECTOR, "#all-trials input[type=search]")
    search.send_keys(Keys.CONTROL, "a")
    search.send_keys("baseline")
    browser.find_element(By.CSS_SELECTOR, "#trials input[data-uid='baseline']").click()
    heads = browser.find_element(By.CSS_SELECTOR, "#compare thead").text
    assert dominated.uid in heads
    assert "baseline" in heads
    search.send_keys(Keys.CONTROL, "a")
    search.send_keys(Keys.DELETE)
    for meter in ("size", "latency"):  # each column begins with its smallest value, whatever was sorted before
        browser.find_element(By.XPATH, f"//table[@id='trials']//th/button[text()='{meter}']").click()
        first = browser.find_element(By.CSS_SELECTOR, "#trials tbody tr").text
        assert min(record.trials.values(), key=lambda t: t.value(meter) or float("inf")).uid in first
    stopped = [trial for trial in record.trials.values() if trial.status == "stopped early"]
    groups = [summary.text for summary in browser.find_elements(By.CSS_SELECTOR, "#failures .calm summary")]
    assert [f"{len(stopped)} trial" in text for text in groups] == [True]
    _picture(browser, "report-whole", 5100)
    assert _complaints(browser) == []


def _recorded(name: str, folder: Path) -> SweepRecord:
    """Return a sweep that was really run, of its journal; what the pages do not read of its progress was left out."""
    folder.mkdir()
    (folder / "journal.jsonl").write_bytes(lzma.decompress((RECORDED / f"{name}.jsonl.xz").read_bytes()))
    return SweepRecord.read(folder)


def test_the_real_sweeps_are_an_interrupted_one_with_early_stops_and_one_of_300_trials(tmp_path: Path) -> None:
    stopped = _recorded("interrupted", tmp_path / "one")
    assert (stopped.status, stopped.reason, stopped.count("stopped early")) == ("stopped", "interrupted", 79)
    many = _recorded("three-hundred", tmp_path / "three")
    assert (many.status, many.count("complete")) == ("done", 300)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("name", ["40 running", *(path.name.partition(".")[0] for path in REAL)])
def test_nothing_is_wider_than_the_screen_and_no_row_is_tall(
    browser: Chrome, tmp_path: Path, name: str, width: int, scheme: str
) -> None:
    trials, _, state = name.partition(" ")
    if state:
        record = write_sweep(tmp_path / "s", trials=int(trials), finished=state == "done", artifacts=False)
    else:
        record = _recorded(name, tmp_path / "s")
    write_report(record, tmp_path / "s.html")
    with _screen(browser, width, scheme):
        browser.get((tmp_path / "s.html").as_uri())
        assert browser.execute_script("return innerWidth") == width
        page = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert page == {"light": "rgb(244, 245, 247)", "dark": "rgb(20, 22, 26)"}[scheme]
        tall = browser.execute_script(
            "const rows = [...document.querySelectorAll('#front tbody tr, #trials tbody tr')];"
            "return Math.max(...rows.map(row => row.offsetHeight))"
        )
        assert 20 < tall <= 80
        overprinted = browser.execute_script(
            "const names = [...document.querySelectorAll('.axes button')];"
            "const at = names.map(b => [b.innerText, b.getBoundingClientRect()]);"
            "return at.flatMap(([name, a], i) => at.slice(i + 1).filter(([, b]) => a.left < b.right - 1"
            " && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1).map(([other]) => [name, other]))"
        )
        assert overprinted == []
        browser.execute_script("app.measured.slice(0, 4).forEach(trial => app.pin(trial))")
        assert len(browser.find_elements(By.CSS_SELECTOR, "#compare thead button")) == 4
        if name == "all-trained":
            assert "bits asked 8, got 7, in the file 7.125" in browser.find_element(By.ID, "compare").text
        assert _too_wide(browser) == []
        assert _complaints(browser) == []
        _picture(browser, f"report-{name}-{width}-{scheme}".replace(" ", "-"), 1000)


@pytest.mark.parametrize("width", [1400, 390])
def test_the_index_tells_each_sweeps_state_best_point_and_time_left(
    browser: Chrome, tmp_path: Path, width: int
) -> None:
    done = write_sweep(tmp_path / "done", trials=12, artifacts=False)
    annotate(done.folder, None, "a note that is far too long for one line of a telephone, " * 4, {"for": "phone"})
    running = write_sweep(tmp_path / "running", trials=12, finished=False, artifacts=False).folder
    with _screen(browser, width):
        with Journal(running), open_board(tmp_path, port=0) as board:
            browser.get(board.url)
            rows = [row.text for row in browser.find_elements(By.CSS_SELECTOR, "tbody tr")]
        first, second = sorted(rows)
        knee = done.front().knee()
        assert "12 of 12" in first
        assert ", ".join(knee.readings[o.meter].with_time for o in done.objectives) in first.replace("\n", " ")
        assert "a note that is far too long" in first
        assert "running" in second
        assert " left" in second
        shown, tall = browser.execute_script(
            "return [innerWidth, Math.max(...[...document.querySelectorAll('tr')].map(row => row.offsetHeight))]"
        )
        assert shown == width
        assert 20 < tall <= 80
        assert _too_wide(browser) == []
        assert _complaints(browser) == []


def test_two_thousand_trials_are_drawn_without_waiting(browser: Chrome, tmp_path: Path) -> None:
    write_report(write_sweep(tmp_path / "many", trials=2_000, artifacts=False), tmp_path / "many.html")
    browser.get((tmp_path / "many.html").as_uri())
    assert browser.execute_script("return app.data.trials.length") == 2_001
    _picture(browser, "report-2000", 1500)
    assert _complaints(browser) == []


@pytest.mark.parametrize("width", [1400, 390])
def test_the_live_page_of_a_running_sweep_is_no_wider_than_the_screen(
    browser: Chrome, tmp_path: Path, width: int
) -> None:
    running = write_sweep(tmp_path / "running", trials=40, finished=False, artifacts=False).folder
    with _screen(browser, width), Journal(running), open_board(tmp_path, port=0) as board:
        browser.get(f"{board.url}/running/")
        wait_for_text(browser, "of 40 trials ended")
        assert "is measured" in browser.find_element(By.ID, "now").text
        assert _too_wide(browser) == []
        assert _complaints(browser) == []
        _picture(browser, f"live-{width}")


def test_live_page_takes_in_what_happens_and_keeps_what_was_chosen(browser: Chrome, tmp_path: Path) -> None:
    begun = time.time() - 200
    whole = write_sweep(tmp_path / "whole", trials=40, artifacts=False, started=begun).folder / "journal.jsonl"
    lines = whole.read_bytes().splitlines(keepends=True)
    folder = tmp_path / "home" / "digits"
    folder.mkdir(parents=True)
    (folder / "journal.jsonl").write_bytes(b"")
    with (folder / "journal.jsonl").open("rb") as driver, open_board(tmp_path / "home", port=0) as board:
        flock(driver, LOCK_EX)  # a sweep whose journal is not locked has died
        board.links["MLflow"] = "http://127.0.0.1:1/"
        browser.get(f"{board.url}/digits/")
        wait_for_text(browser, "Nothing has finished yet")
        (folder / "journal.jsonl").write_bytes(b"".join(lines[:134]))
        wait_for_text(browser, "of 40 trials ended")
        assert "epoch" in browser.find_element(By.ID, "now").text
        browser.find_element(By.CSS_SELECTOR, "input[aria-label='size, at most']").send_keys(*[Keys.ARROW_LEFT] * 30)
        wish = browser.find_element(By.CSS_SELECTOR, ".limit b").text
        _picture(browser, "live")
        before = browser.execute_script("return app.data.now.ended")
        (folder / "journal.jsonl").write_bytes(b"".join(lines[:175]))
        wait(browser, f"app.data.now.ended > {before}")
        assert browser.find_element(By.CSS_SELECTOR, ".limit b").text == wish
        (folder / "journal.jsonl").write_bytes(b"".join(lines))
        wait(browser, "app.data.status === 'done' && document.getElementById('now-panel').hidden")
        assert _complaints(browser) == []
        browser.get(f"{board.url}/")
        _picture(browser, "sweeps")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SweepRecord, str]]:
    home = tmp_path_factory.mktemp("home")
    record = write_sweep(home / "digits", trials=30)
    publish_sweep(record)
    with open_mlflow(home) as server:
        yield record, server


def test_mlflow_opens_on_the_front_with_its_charts(browser: Chrome, recorded: tuple[SweepRecord, str]) -> None:
    record, server = recorded
    at = read_sync_status(record.folder)
    members = [trial for trial in record.front() if trial.role == "trial"]
    browser.set_window_size(1440, 1000)
    browser.get(view_link(record, at.experiment_id, "front", server))
    wait_for_text(browser, f"trial {members[0].number}")
    close_assistant(browser)
    wait(browser, "document.querySelectorAll('.js-plotly-plot').length >= 2")
    _picture(browser, "mlflow-front", 1100)
    browser.get("about:blank")
    browser.get(plain_link(record, at.experiment_id, "failures", server))
    failed = next(trial for trial in record.trials.values() if trial.status not in ("complete", "running"))
    wait_for_text(browser, f"trial {failed.number}")
    _picture(browser, "mlflow-failures")


def test_mlflow_shows_the_report_and_the_landing_note(browser: Chrome, recorded: tuple[SweepRecord, str]) -> None:
    record, server = recorded
    at = read_sync_status(record.folder)
    browser.get(run_link(at.experiment_id, at.run_id, server=server))
    wait_for_text(browser, "report")
    wait(browser, "[...document.links].some(link => link.href.includes('report/report.html'))")
    _picture(browser, "mlflow-sweep")
    browser.get(run_link(at.experiment_id, at.run_id, "report/report.html", server))
    frame = WebDriverWait(browser, 60).until(lambda b: b.find_element(By.TAG_NAME, "iframe"))
    _picture(browser, "mlflow-report", 1100)
    browser.switch_to.frame(frame)
    WebDriverWait(browser, 30).until(lambda b: record.front().knee().uid in b.find_element(By.ID, "picked").text)
    browser.switch_to.default_content()

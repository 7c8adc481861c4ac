"""The numbers of a sweep through Ray into a real Prometheus, asked by the queries of the Grafana dashboard."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
from synthetic_sweep import write_sweep

from paretta.dashboards.journal.gauges import GAUGES, samples
from paretta.dashboards.journal.journal import Journal
from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.server.server_process import LOOPBACK, free_port
from paretta.search_spaces.canonical import Document

DASHBOARD = Path(__file__).parents[3] / "dashboards" / "grafana" / "sweeps.json"
PANELS = [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["targets"]]
PROMETHEUS = shutil.which("prometheus")
TELLER = """
import sys, time
from pathlib import Path
import ray
from paretta.dashboards.journal.record import SweepRecord
from paretta.orchestrator.monitor.prometheus import SweepMetrics
ray.init(num_cpus=1, include_dashboard=False, _metrics_export_port=int(sys.argv[2]), log_to_driver=False)
record, metrics = SweepRecord.read(Path(sys.argv[1])), SweepMetrics()
while True:
    metrics.tell(record, at_once=True)
    print("told", flush=True)
    time.sleep(1)
"""


def test_unknown_numbers_are_left_out() -> None:
    assert {sample.name for sample in samples(SweepRecord())} == {
        "paretta_trials",
        "paretta_front_size",
        "paretta_trials_waiting",
        "paretta_last_event_timestamp_seconds",
    }


def test_every_query_asks_for_a_gauge_that_there_is() -> None:
    for panel in PANELS:
        for target in panel["targets"]:
            assert any(f"ray_{name}{{" in target["expr"] for name in GAUGES), panel["title"]


@contextmanager
def _running(command: list[str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("wb") as file, subprocess.Popen(command, cwd=log.parent, stdout=file, stderr=file) as process:
        try:
            yield process
        finally:
            process.terminate()


def _query(port: int, expression: str) -> list[tuple[dict[str, str], float]]:
    url = f"http://{LOOPBACK}:{port}/api/v1/query?{urlencode({'query': expression})}"
    try:
        with urlopen(url, timeout=10) as answer:
            found = json.load(answer)["data"]["result"]
    except URLError:
        return []
    return [(item["metric"], float(item["value"][1])) for item in found]


@pytest.mark.slow
@pytest.mark.skipif(PROMETHEUS is None, reason="Debian's prometheus is not installed")
def test_dashboard_queries_are_answered_by_prometheus_with_the_sweeps_numbers(tmp_path: Path) -> None:
    assert PROMETHEUS
    folder = tmp_path / "watched"
    running = next(
        t for t in write_sweep(folder, trials=20, finished=False, artifacts=False).trials.values() if not t.has_ended
    )
    with Journal(folder) as journal:
        shares: Document = {"loading": 0.25, "computing": 0.75}
        journal.progress(running.uid, {"where": "lane 0 on node", "shares": shares})
    record = SweepRecord.read(folder)
    exported, port = free_port(LOOPBACK, 0), free_port(LOOPBACK, 0)
    (tmp_path / "prometheus.yml").write_text(
        "global: {scrape_interval: 1s}\n"
        f"scrape_configs: [{{job_name: ray, static_configs: [{{targets: ['{LOOPBACK}:{exported}']}}]}}]\n"
    )
    listen = [f"--web.listen-address={LOOPBACK}:{port}", "--config.file=prometheus.yml", "--storage.tsdb.path=data"]
    teller = [sys.executable, "-c", TELLER, str(record.folder), str(exported)]
    with _running(teller, tmp_path / "ray.log"), _running([PROMETHEUS, *listen], tmp_path / "prometheus.log"):
        until, latest = time.monotonic() + 120, PANELS[7]["targets"][0]["expr"].replace("$sweep", "watched")
        while not _query(port, latest) and time.monotonic() < until:  # a rate takes two scrapes
            time.sleep(0.5)
        answers = {
            panel["title"]: _query(port, panel["targets"][0]["expr"].replace("$sweep", "watched")) for panel in PANELS
        }
    assert all(answers.values()), (answers, (tmp_path / "ray.log").read_text())
    front = record.front()
    ended = sum(trial.has_ended and trial.role == "trial" for trial in record.trials.values())
    assert answers["Trials ended"] == [({"sweep": "watched"}, pytest.approx(ended / 20))]
    assert answers["Hypervolume"] == [({"sweep": "watched"}, pytest.approx(front.hypervolume))]
    assert answers["On the front"] == [({"sweep": "watched"}, len(front))]
    best = {metric["meter"]: value for metric, value in answers["Best of each objective"]}
    assert best == {o.meter: pytest.approx(front.pick(prefer=o.meter).value(o.meter)) for o in front.objectives}
    waits = {
        metric["of"]: value for metric, value in answers["What lanes wait for"] if metric["lane"] == "lane 0 on node"
    }
    assert waits == {"loading": 0.25, "computing": 0.75}
    by_status = {metric["status"]: value for metric, value in answers["Trials by status"]}
    assert by_status["complete"] == record.count("complete")

"""Takes the pictures of docs/dashboards.md from a real sweep on the digits, including its live page while it runs."""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from selenium.webdriver import Chrome

from paretta.dashboards.journal.journal import JOURNAL_FILE
from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.server.board import open_board, open_mlflow
from paretta.dashboards.tracking.sync_status import read_sync_status
from paretta.dashboards.tracking.views import view_link
from tests.e2e.chromium import WIDTH, close_assistant, open_chromium, picture, wait, wait_for_text

PICTURES = Path(__file__).parents[1] / "pictures"
HOME = Path(tempfile.gettempdir()) / "paretta" / "sweeps"  # visible on the pages
ENDED = 8  # trials, at the picture of the live page


def take(browser: Chrome, name: str, height: int) -> None:
    """Take a picture with a reduced palette, which needs a third of the bytes."""
    path = PICTURES / name
    picture(browser, path, height)
    Image.open(path).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    """Run the sweep in a new folder and take three pictures for the documentation."""
    if HOME.exists():
        sys.exit(f"{HOME} is in the way: remove it first")
    HOME.mkdir(parents=True)
    sweep = HOME / "digits"
    command = [sys.executable, "-m", "paretta", "launch", "digits", "--home", str(HOME)]
    with subprocess.Popen(command) as launch:  # noqa: S603  our own command
        while not (sweep / JOURNAL_FILE).exists() and launch.poll() is None:
            time.sleep(0.5)
        with open_board(HOME, port=0) as board, open_mlflow(HOME) as mlflow, open_chromium() as browser:
            board.links["MLflow"] = mlflow
            browser.get(f"{board.url}/digits/")
            wait(browser, f"app.data.now.ended >= {ENDED} && app.data.now.doing.some(trial => trial.where)", 1800)
            take(browser, "live.png", 1050)
            if launch.wait() != 0:
                sys.exit("the sweep failed")
            at, record = read_sync_status(sweep), SweepRecord.read(sweep)
            browser.set_window_size(WIDTH, 1100)
            browser.get(view_link(record, at.experiment_id, "front", mlflow))
            wait_for_text(browser, f"trial {record.front().members[0].number}")
            close_assistant(browser)
            wait(
                browser,
                "document.querySelectorAll('.js-plotly-plot').length >= 3 && document.querySelector('.parcoords')",
            )
            take(browser, "mlflow.png", 1100)
            browser.get((sweep / "report.html").as_uri())
            take(browser, "report.png", 1500)
    shutil.rmtree(HOME.parent)


if __name__ == "__main__":
    main()

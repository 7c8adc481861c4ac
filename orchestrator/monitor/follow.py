"""Follow a sweep that another process runs on this disk, by reading its journal."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from paretta.dashboards.journal.activity import asked
from paretta.dashboards.journal.liveness import is_written
from paretta.dashboards.journal.record import SweepRecord
from paretta.orchestrator.monitor.front_table import FrontTable, print_front
from paretta.orchestrator.monitor.progress_text import summary
from paretta.orchestrator.monitor.terminal import display
from paretta.search_spaces.canonical import Document

POLL_S: Final = 0.5


def changes(folder: Path, every_s: float = POLL_S) -> Iterator[tuple[SweepRecord, list[Document]]]:
    """Yield the record and its new events, first all that exist, until no process runs the sweep.

    Raises the same errors as `SweepRecord.read`.
    """
    record, position = SweepRecord(name=folder.name, folder=folder), 0
    while True:
        over = not is_written(folder)  # checked before reading: a driver that has ended writes no more
        news = []
        for event, end in record.follow(position):
            news.append(event)
            position = end
        if news:
            yield record, news
        if record.status != "running" or over:
            return
        time.sleep(every_s)


def follow_sweep(folder: Path, every_s: float = POLL_S) -> None:
    """Show on standard error what the driver of the sweep in `folder` shows, from now until the sweep ends."""
    following = changes(folder, every_s)
    record, past = next(following)
    with display(asked(record) or 0) as shown:
        shown.update(record, past[-1])
        for _, news in following:
            for event in news:
                shown.update(record, event)


def watch_front(folder: Path, every_s: float = POLL_S) -> None:
    """Print the front when the sweep in `folder` ends; until then show it live on a terminal, or print each new one."""
    console, told = Console(highlight=False), None
    with Live(console=console, transient=True, auto_refresh=False) as live:
        for record, _ in changes(folder, every_s):
            front = record.front()
            if console.is_terminal:
                counts = Text(summary(record, asked(record) or 0))
                live.update(Group(FrontTable(front), counts), refresh=True)
            elif told is not None and told != front.members and record.status == "running":
                print_front(front)
            told = front.members
    print_front(record.front())

"""The front as HTML, for a notebook: its table, its notes and its picture."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from io import BytesIO
from typing import Final

from paretta.dashboards.report.figure import front_figure
from paretta.orchestrator.monitor.front_table import FrontTable
from paretta.orchestrator.monitor.front_text import curse_notes, limits_note, machine_note
from paretta.search_spaces.results.front import Front

_NUMBER: Final = "text-align: right; white-space: nowrap"
_TEXT: Final = "text-align: left"


def front_html(front: Front) -> str:
    """Return the table of a front, what its signs mean, and its picture, as one piece of HTML without scripts."""
    table = FrontTable(front)
    notes = [table.legend(), *filter(None, (machine_note(front), limits_note(front), *curse_notes(front)))]
    told = "".join(f"<p>{escape(note)}</p>" for note in notes)
    return f"<div>{html_table(('trial', *table.headings(), 'plan'), table.rows())}{told}{_picture(front)}</div>"


def html_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table whose first and last columns are text and all others numbers."""

    def line(tag: str, cells: Sequence[str]) -> str:
        styles = [_TEXT, *[_NUMBER] * (len(cells) - 2), _TEXT][: len(cells)]
        return "".join(
            f'<{tag} style="{style}">{escape(cell)}</{tag}>' for style, cell in zip(styles, cells, strict=True)
        )

    body = "".join(f"<tr>{line('td', row)}</tr>" for row in rows)
    head = f"<thead><tr>{line('th', headings)}</tr></thead>" if headings else ""
    return f"<table>{head}<tbody>{body}</tbody></table>"


def _picture(front: Front) -> str:
    if not front.members:
        return ""
    picture = BytesIO()
    front_figure(front).savefig(picture, format="png", dpi=90)
    return f'<img alt="the front" src="data:image/png;base64,{base64.b64encode(picture.getvalue()).decode()}"/>'

"""The front as a static picture, for a README or a page without scripts."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from paretta.dashboards.journal.summary import roles
from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.quantities import format_quantity
from paretta.search_spaces.results.front import Front
from paretta.search_spaces.results.trial import Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from paretta.dashboards.report.shown_figure import ShownFigure

_FRONT, _REST, _INK, _PAPER = "#1559c0", "#8b93a1", "#1b1f27", "#ffffff"
_MOST_ROLES: Final = 4


def front_picture(front: Front, path: Path) -> None:
    """Draw the front to `path`, a PNG or SVG file; see `front_figure`."""
    from matplotlib import rc_context  # noqa: PLC0415  heavy

    with rc_context({"svg.hashsalt": "paretta"}):  # no date and no random ids, so that equal fronts give equal files
        front_figure(front).savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def front_figure(front: Front) -> "ShownFigure":
    """Return one plot per objective but the last, which is on every y axis.

    Diamonds are the front with its 95 % intervals, open circles dominated trials, the square is the baseline.
    """
    from paretta.dashboards.report.shown_figure import ShownFigure  # noqa: PLC0415  heavy

    *across, up = front.objectives
    figure = ShownFigure(figsize=(5.2 * max(len(across), 1), 4.2), dpi=150, facecolor=_PAPER, layout="constrained")
    for index, objective in enumerate(across, start=1):
        _draw(figure.add_subplot(1, len(across), index), front, objective, up)
    num_trials = sum(trial.role == "trial" for trial in front.trials)
    title = f"{front.sweep}: {len(front)} on the front, of {num_trials} trials"
    figure.suptitle(title, color=_INK, fontsize=11, parse_math=False)
    return figure


def _draw(axes: "Axes", front: Front, across: Objective, up: Objective) -> None:
    members = {trial.uid for trial in front}
    rest = [t for t in front.trials if t.is_measured and t.uid not in members and t.role == "trial"]
    axes.plot(*_places(rest, across, up), "o", mfc="none", mec=_REST, ms=4, mew=0.9, label="dominated")
    for trial in front:
        (x,), (y,) = _places([trial], across, up)
        axes.errorbar(x, y, xerr=_spread(trial, across), yerr=_spread(trial, up), color=_FRONT, lw=0.9, alpha=0.45)
    axes.plot(*_places(list(front), across, up), "D", color=_FRONT, mec=_PAPER, mew=0.6, ms=6, label="front")
    if front.baseline:
        axes.plot(*_places([front.baseline], across, up), "s", color=_INK, ms=6, label="baseline")
    _name_roles(axes, front, across, up)
    _label(axes, front, across, up)


def _places(trials: list[Trial], across: Objective, up: Objective) -> tuple[list[float], list[float]]:
    pairs = [
        (x, y) for t in trials if (x := t.value(across.meter)) is not None and (y := t.value(up.meter)) is not None
    ]
    return [x for x, _ in pairs], [y for _, y in pairs]


def _spread(trial: Trial, objective: Objective) -> list[list[float]] | None:
    reading = trial.readings[objective.meter]
    if reading.value is None or reading.low is None or reading.high is None:
        return None
    return [[max(reading.value - reading.low, 0.0)], [max(reading.high - reading.value, 0.0)]]


def _name_roles(axes: "Axes", front: Front, across: Objective, up: Objective) -> None:
    from matplotlib.patheffects import withStroke  # noqa: PLC0415

    held = roles(front)
    for trial in [trial for trial in front if trial.uid in held][:_MOST_ROLES]:
        (x,), (y,) = _places([trial], across, up)
        text = ", ".join(held[trial.uid])
        named = axes.annotate(text, (x, y), textcoords="offset points", xytext=(7, -11), fontsize=8, color=_INK)
        named.set_path_effects([withStroke(linewidth=2, foreground=_PAPER)])  # readable among marks without hiding them


def _label(axes: "Axes", front: Front, across: Objective, up: Objective) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter  # noqa: PLC0415

    values = [value for t in front.trials if (value := t.value(across.meter)) is not None and t.is_measured]
    if across.goal == "min" and across.unit != "share" and values and min(values) > 0 and max(values) > 8 * min(values):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0) if max(values) > 30 * min(values) else (1.0, 2.0, 5.0)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value, across.unit)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value, up.unit)))
    axes.set_xlabel(f"{across.meter} ({'less' if across.goal == 'min' else 'more'} is better)", color=_INK)
    axes.set_ylabel(f"{up.meter} ({'less' if up.goal == 'min' else 'more'} is better)", color=_INK)
    axes.grid(color="#eceef2")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, loc="lower right")


def _short(value: float, unit: str) -> str:
    if unit == "share":
        return f"{value * 100:g} %"
    return f"{value:g}x" if unit == "ratio" else format_quantity(value, unit)

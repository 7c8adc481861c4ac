"""Saved views of a sweep in MLflow's own pages, its landing text, and plain links that work without the views."""

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from paretta.dashboards.journal.activity import num_ended
from paretta.dashboards.journal.liveness import state_words
from paretta.dashboards.journal.record import SweepRecord
from paretta.dashboards.journal.summary import roles
from paretta.dashboards.tracking.schema import REPORT_PATH, allowed_name, sweep_id
from paretta.search_spaces.canonical import Json
from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.quantities import format_quantity
from paretta.search_spaces.results.front import Front

if TYPE_CHECKING:
    from mlflow import MlflowClient

# The format of MLflow's saved views is undocumented, so all code that depends on it is in this module.
_WORKFLOW: Final = "machine_learning"  # without this, MLflow opens its pages for language models
_VIEW_TAG: Final = "mlflow.sharedViewState"
_UNITS: Final = {"share": "shares of 1", "ratio": "parts of the baseline's time", "B": "bytes", "s": "seconds"}
_VIEWS: Final[Mapping[str, str]] = {"front": "front", "trials": "all trials", "failures": "failures"}


def view_link(record: SweepRecord, experiment_id: str, view: str, server: str = "") -> str:
    """Return the link to the view ``front``, ``trials`` or ``failures`` of the sweep, as saved by `write_views`.

    Leave out `server`, such as ``http://127.0.0.1:5000``, for a link from within MLflow. The link has only the name of
    the view: with any filter or order in addition, MLflow drops the view's charts.
    """
    mode = "TABLE" if view == "failures" else "CHART"
    return _runs_link(experiment_id, server, {"viewStateShareKey": _view_key(record, view), "compareRunsMode": mode})


def plain_link(record: SweepRecord, experiment_id: str, view: str, server: str = "") -> str:
    """Return a link to the same runs by documented parameters, in case the saved views do not work."""
    key, ascending = _order(record, view)
    order = {"orderByKey": key, "orderByAsc": str(ascending).lower()}
    parameters = {"searchFilter": _filter(record, view), **order, "startTime": "ALL", "lifecycleFilter": "Active"}
    return _runs_link(experiment_id, server, parameters)


def _runs_link(experiment_id: str, server: str, parameters: Mapping[str, str]) -> str:
    return f"{_page(experiment_id, server)}?{urlencode({'workflowType': _WORKFLOW, **parameters})}"


def _page(experiment_id: str, server: str) -> str:
    """Return the link to the page of runs; without `server`, a relative link that works under any URL prefix."""
    return f"{server}{'/' if server else ''}#/experiments/{experiment_id}/runs"


def run_link(experiment_id: str, run_id: str, path: str = "", server: str = "") -> str:
    """Return the link to the page of a run, or of one of its artifacts."""
    artifact = f"/artifacts/{path}" if path else ""
    return f"{_page(experiment_id, server)}/{run_id}{artifact}?workflowType={_WORKFLOW}"


def landing_note(record: SweepRecord, front: Front, experiment_id: str, run_id: str) -> str:
    """Return the text (Markdown) at the top of the sweep's page: links, and the members of the front with a role."""
    links = [f"[{title}]({view_link(record, experiment_id, view)})" for view, title in _VIEWS.items()]
    if record.status != "running":
        links.insert(0, f"[**report**]({run_link(experiment_id, run_id, f'{REPORT_PATH}/report.html')})")
    plain = [f"[{title}]({plain_link(record, experiment_id, view)})" for view, title in _VIEWS.items()]
    counts = f"{record.count('complete')} complete, {record.count('failed')} failed of {num_ended(record)} trials"
    status, reason = state_words(record)
    state = f"{status}, {reason}" if status == "died" else status
    noted = record.annotation().note
    lines = [
        *([noted, ""] if noted else []),
        " · ".join(links),
        "",
        f"Sweep **{record.name}**, {state}: {counts}, {len(front)} on the front. "
        f"If a view shows nothing, use the plain lists: {', '.join(plain)}.",
        "",
    ]
    units = [f"{o.meter} in {_UNITS.get(o.unit, o.unit)}" if o.unit else o.meter for o in front.objectives]
    told = "`trial.readings` has readable units; charts and the columns of metrics have base units"
    lines += [f"{told}: {', '.join(units)}. Black is the baseline.", ""] if units else []
    held = roles(front)
    if held:
        lines += ["| role | trial | " + " | ".join(o.meter for o in front.objectives) + " | plan |"]
        lines += ["|---" * (len(front.objectives) + 3) + "|"]
    for trial in front:
        if trial.uid in held:
            values = [_shown(trial.value(objective.meter), objective) for objective in front.objectives]
            lines.append("| " + " | ".join([", ".join(held[trial.uid]), trial.uid, *values, trial.words]) + " |")
    return "\n".join(lines)


def write_views(client: "MlflowClient", experiment_id: str, record: SweepRecord, tags: dict[str, str]) -> None:
    """Add the sweep's views to the experiment's menu of saved views.

    `tags` are the known tags of the experiment: views that are among them are not written again; new ones are added.
    """
    for view, title in _VIEWS.items():
        key, value = f"{_VIEW_TAG}.{_view_key(record, view)}", _view(record, view, f"{record.name}: {title}")
        if tags.get(key) != value:
            client.set_experiment_tag(experiment_id, key, value)
            tags[key] = value


def _view(record: SweepRecord, view: str, title: str) -> str:
    time = round(record.started * 1000)
    state = "deflate;" + base64.b64encode(zlib.compress(json.dumps(_state(record, view)).encode(), 9)).decode()
    return json.dumps({"name": title, "createdAt": time, "updatedAt": time, "state": state})


def _view_key(record: SweepRecord, view: str) -> str:
    return f"{sweep_id(record)}-{view}".replace(".", "-")


def _filter(record: SweepRecord, view: str) -> str:
    sweep = f"tags.`sweep.id` = '{sweep_id(record)}' and tags.`sweep.kind` != 'sweep'"
    match view:
        case "front":
            return f"{sweep} and tags.`pareto.chart` = 'true'"
        case "failures":
            return f"{sweep} and tags.`trial.status` != 'complete'"
        case _:
            return sweep


def _order(record: SweepRecord, view: str) -> tuple[str, bool]:
    """Return the sort key and direction of a view.

    Sorting by anything but the creation time makes MLflow flatten the tree of runs, so that the trials are shown.
    """
    if view == "failures" or not record.objectives:
        return "tags.`trial.uid`", True
    return f"metrics.`{allowed_name(record.objectives[0].meter)}`", record.objectives[0].goal == "min"


def _state(record: SweepRecord, view: str) -> dict[str, Json]:
    key, ascending = _order(record, view)
    meters = [allowed_name(objective.meter) for objective in record.objectives]
    knobs = sorted({allowed_name(name) for trial in record.trials.values() for name in trial.knobs})[:8]
    columns = (
        ["tags.`trial.reason`", "tags.`trial.status`"]
        if view == "failures"
        else ["tags.`pareto.role`", "tags.`trial.readings`"]
    )
    columns += [] if view == "failures" else [f"metrics.`{meter}`" for meter in meters]
    columns += ["tags.`plan.words`"] if view == "failures" else ["tags.`plan.words`", *(f"params.`{k}`" for k in knobs)]
    charts = [] if view == "failures" else _charts(meters)
    section: dict[str, Json] = dict.fromkeys(("isReordered", "deleted", "isGenerated"), False)
    return {
        "searchFilter": _filter(record, view),
        "orderByKey": key,
        "orderByAsc": ascending,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": columns,
        "runsHiddenMode": "SHOW_ALL",
        "runsVisibilityMap": {},
        "compareRunCharts": charts,
        "compareRunSections": [{"uuid": "paretta", "name": "Front", "display": True, "columns": 2, **section}],
        "isAccordionReordered": True,
        "groupBy": None,
    }


def _charts(meters: Sequence[str]) -> list[Json]:
    """Return a scatter plot for each pair of objectives, and a parallel coordinates chart of all objectives."""
    pairs = [(first, second) for index, first in enumerate(meters) for second in meters[index + 1 :]]
    pairs.sort(key=lambda pair: pair[1] != meters[-1])
    common: dict[str, Json] = {
        "runsCountToCompare": 1000,
        "metricSectionId": "paretta",
        "deleted": False,
        "isGenerated": False,
    }
    scatters: list[Json] = [
        {
            "uuid": f"scatter-{x}-{y}",
            "type": "SCATTER",
            "xaxis": {"key": x, "type": "METRIC"},
            "yaxis": {"key": y, "type": "METRIC"},
            **common,
        }
        for x, y in pairs
    ]
    parallel: Json = {
        "uuid": "parallel",
        "type": "PARALLEL",
        "selectedParams": [],
        "selectedMetrics": list(meters),
        "showAllRuns": True,
        **common,
    }
    return [*scatters, parallel]


def _shown(value: float | None, objective: Objective) -> str:
    return "not measured" if value is None else format_quantity(value, objective.unit)

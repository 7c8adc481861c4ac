"""Notes printed with the table of a front: limits, machines, confirmations and winner's curse."""

from rich.box import SIMPLE_HEAD
from rich.table import Table

from paretta.search_spaces.objectives.objective import Objective
from paretta.search_spaces.quantities import format_quantity
from paretta.search_spaces.results.confirmation import Confirmed, WinnersCurse, confirmations, winners_curse
from paretta.search_spaces.results.front import Front, timed_on


def limits_note(front: Front) -> str | None:
    """Name the limits that all members meet, or say that this is the best effort; None without limits."""
    if not front.limits:
        return None
    wishes = " and ".join(map(str, front.limits))
    if not front.members:
        return f"limits: {wishes}"
    if not front.best_effort:
        return f"every point has {wishes}"
    nearest = front.members[0]
    return f"best effort: no trial has {wishes}; {nearest.uid} misses it by least ({_misses(front)})"


def machine_note(front: Front) -> str | None:
    """Name the machines on which the front's times were measured; None if nothing was timed."""
    machines = timed_on(front)
    return f"times are of {'; '.join(machines)}" if machines else None


def confirmation_table(front: Front) -> Table | None:
    """Return a table of claim, mean and spread of each confirmed member; None if nothing was confirmed."""
    found = confirmations(front)
    if not found:
        return None
    table = Table(
        title="trained again with fresh seeds: claim → mean ± standard deviation",
        title_justify="left",
        pad_edge=False,
        box=SIMPLE_HEAD,
    )
    table.add_column("trial", no_wrap=True)
    table.add_column("seeds", justify="right")
    for objective in front.objectives:
        table.add_column(objective.meter, justify="right", no_wrap=True)
    for uid in dict.fromkeys(confirmed.uid for confirmed in found):
        row = [confirmed for confirmed in found if confirmed.uid == uid]
        table.add_row(uid, str(max(len(confirmed.fresh) for confirmed in row)), *map(_again, row))
    return table


def curse_notes(front: Front) -> list[str]:
    """Say for each objective by how much the front's claims are too good; unchanged ones are left out."""
    return [f"mean over the front: {words}" for curse in winners_curse(front) if (words := _curse(curse))]


def _misses(front: Front) -> str:
    nearest, baseline = front.members[0], front.baseline
    parts = []
    for limit in front.limits:
        origin = baseline.readings.get(limit.meter) if baseline else None
        reading = nearest.readings.get(limit.meter)
        bound = limit.bound(origin)
        if reading is not None and bound is not None and limit.excess(reading, origin) > 0:
            unit = limit.unit or reading.unit
            value = reading if unit == reading.unit else format_quantity(reading.value_in(unit) or 0.0, unit)
            parts.append(f"{limit.meter} {value}, the bound is {format_quantity(bound, unit)}")
    return ", ".join(parts)


def _again(confirmed: Confirmed) -> str:
    claim = format_quantity(confirmed.claimed, confirmed.objective.unit)
    if confirmed.mean is None:
        return f"{claim} → none measured"
    mean = format_quantity(confirmed.mean, confirmed.objective.unit)
    spread = f" ± {format_quantity(confirmed.spread, confirmed.objective.unit)}" if confirmed.spread else ""
    return f"{claim} → {mean}{spread}"


def _curse(curse: WinnersCurse) -> str | None:
    parts = [
        f"{_amount(amount, curse.objective)} {'better' if amount > 0 else 'worse'} than {what}"
        for what, amount in (("with fresh seeds", curse.seeds), ("on the test split", curse.test))
        if amount
    ]
    return f"{curse.objective.meter} was claimed {' and '.join(parts)}" if parts else None


def _amount(amount: float, objective: Objective) -> str:
    if objective.unit == "share":
        return f"{abs(amount) * 100:.2f} points"
    return format_quantity(abs(amount), objective.unit)

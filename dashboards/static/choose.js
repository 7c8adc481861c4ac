// Selects one member by limits and a preference, by the same rules as `paretta pull`.
function fits(trial, limits, objectives) {
  return objectives.every((objective, i) => limits[i] === null || trial.v[i] !== null
    && (objective.goal === "min" ? trial.v[i] <= limits[i] : trial.v[i] >= limits[i]));
}

function choose(members, limits, prefer, objectives) {
  const fitting = members.filter(trial => fits(trial, limits, objectives));
  if (!fitting.length) return null;
  if (prefer === "knee") return knee(fitting);
  const i = objectives.findIndex(objective => objective.meter === prefer);
  const sign = objectives[i].goal === "min" ? 1 : -1;
  return fitting.reduce((best, t) => sign * (t.v[i] - best.v[i]) < 0 || (t.v[i] === best.v[i] && t.n < best.n) ? t : best);
}

// The member with the least sum of axes, each scaled to 0..1 over the members that fit.
function knee(members) {
  const columns = members[0].axes.map((_, i) => members.map(trial => trial.axes[i]));
  const low = columns.map(column => Math.min(...column)), high = columns.map(column => Math.max(...column));
  const score = trial => trial.axes.reduce((sum, axis, i) => sum + (axis - low[i]) / (high[i] > low[i] ? high[i] - low[i] : 1), 0);
  return members.reduce((best, trial) => score(trial) < score(best) ? trial : best);
}

function pullCommand(sweep, at, limits, prefer, objectives) {
  const parts = ["paretta pull", /^[\w.\-]+$/.test(sweep) ? sweep : `'${sweep}'`];
  if (prefer !== "knee") parts.push("--prefer", prefer);
  objectives.forEach((objective, i) => {
    if (limits[i] === null) return;
    const down = objective.goal === "min";
    parts.push(down ? "--at-most" : "--at-least", `${objective.meter}=${argument(limits[i], objective.unit, down ? -1 : 1, 6)}`);
  });
  return parts.concat(at || [], "--to ./model").join(" ");
}

// The shortest wish for which `paretta pull` selects exactly this member: its own values as limits, with few digits.
function wishFor(trial, members, objectives) {
  const best = ["knee", ...objectives.map(objective => objective.meter)]
    .find(prefer => choose(members, objectives.map(() => null), prefer, objectives) === trial);
  if (best) return { limits: objectives.map(() => null), prefer: best };
  for (let last = objectives.length - 1; last >= 0; last--) {
    for (const digits of [2, 3, 4, 6]) {
      const limits = objectives.map((objective, i) => i === last ? null : outward(trial.v[i], objective, digits));
      if (choose(members, limits, objectives[last].meter, objectives) === trial) return { limits, prefer: objectives[last].meter };
    }
  }
  return { limits: objectives.map((_, i) => trial.v[i]), prefer: "knee" };
}

function outward(value, objective, digits) {
  const step = 10 ** (Math.floor(Math.log10(Math.abs(value) || 1)) + 1 - digits);
  const rounded = (objective.goal === "min" ? Math.ceil(value / step - 1e-7) : Math.floor(value / step + 1e-7)) * step;
  return +rounded.toPrecision(12);
}

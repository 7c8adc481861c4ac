// The front, the side-by-side comparison, the cost and the failures, as tables.
function fillFront(app) {
  const table = document.getElementById("front");
  const columns = [
    { name: "", sort: null }, { name: "trial", sort: t => t.n },
    ...app.objectives.map((o, i) => ({ name: o.meter, sort: t => t.v[i], number: true })),
    ...app.tested.map(i => ({ name: `${app.objectives[i].meter} on test`, sort: t => t.t[i] && t.t[i][0], number: true })),
    { name: "plan", sort: t => t.words },
  ];
  const head = element("tr", {}, ...columns.map(column => element("th", { scope: "col", class: column.number ? "number" : null },
    column.sort ? element("button", { type: "button", class: "quiet", onclick: () => sortBy(column) }, column.name) : element("span", { title: "side by side" }, "⇆"))));
  const body = element("tbody");
  let rows = [...app.members], last = null;
  const sortBy = column => {
    const value = column.sort, sign = last === column ? -1 : 1;
    last = last === column ? null : column;
    rows.sort((a, b) => sign * (value(a) > value(b) ? 1 : value(a) < value(b) ? -1 : 0));
    body.replaceChildren(...rows.map(t => t.row));
  };
  for (const trial of rows) trial.row = frontRow(app, trial);
  body.append(...rows.map(t => t.row));
  table.append(element("thead", {}, head), body);
  if (app.undecided.length) table.append(element("tbody", { class: "undecided" }, ...app.undecided.map(t => undecidedRow(app, t))));
}

function frontRow(app, trial) {
  trial.tick = element("input", { type: "checkbox", "aria-label": `put ${trial.uid} side by side`, onchange: () => app.pin(trial) });
  const roles = trial.roles.map(role => element("span", { class: "role" }, role));
  return element("tr", { onclick: event => { if (event.target.tagName !== "INPUT") app.select(trial); } },
    element("td", {}, trial.tick),
    element("td", {}, element("button", { type: "button", class: "quiet", onclick: () => app.select(trial) }, trial.uid), element("br"), ...roles),
    ...app.objectives.map((o, i) => element("td", { class: "number" }, quantity(trial.v[i], o.unit), element("small", {}, beside(trial, i, o.unit)))),
    ...app.tested.map(i => testCell(app.objectives[i], trial.t[i])),
    element("td", {}, trial.words));
}

// An undecided trial: off the front, but not dominated beyond the intervals. No wish selects it, so it has no button.
function undecidedRow(app, trial) {
  return element("tr", {}, element("td", { title: "off the front, but not distinguishable from it" }, "≈"), element("td", {}, trial.uid),
    ...app.objectives.map((o, i) => element("td", { class: "number" }, quantity(trial.v[i], o.unit), element("small", {}, beside(trial, i, o.unit)))),
    ...app.tested.map(() => element("td", { class: "number" }, "–")), element("td", {}, trial.words));
}

function testCell(objective, reading) {
  if (!reading) return element("td", { class: "number" }, "–");
  return element("td", { class: "number" }, quantity(reading[0], objective.unit), element("small", {}, interval(reading[1], reading[2], objective.unit)));
}

function fillCompare(app) {
  const table = document.getElementById("compare"), chosen = [...app.pinned];
  document.getElementById("compare-panel").hidden = !app.members.length;
  table.replaceChildren();
  if (!chosen.length) return;
  const row = (name, cells, number) => {
    const texts = cells.map(cell => cell instanceof Node ? cell.textContent : String(cell));
    return element("tr", { class: new Set(texts).size > 1 && cells.length > 1 ? "differs" : null },
      element("th", { scope: "row" }, name), ...cells.map(cell => element("td", { class: number ? "number" : null }, cell)));
  };
  table.append(element("thead", {}, element("tr", {}, element("th"), ...chosen.map(t => element("th", { scope: "col" }, t.uid, " ",
    element("button", { type: "button", "aria-label": `take ${t.uid} away`, onclick: () => app.pin(t) }, "×"))))));
  table.append(element("tbody", {},
    ...app.objectives.flatMap((o, i) => [
      row(o.meter, chosen.map(t => measured(o, t.v[i], t.l[i], t.h[i]))),
      row("  against the baseline", chosen.map(t => gain(t.v[i], o))),
      ...(app.tested.includes(i) ? [row("  on the test split", chosen.map(t => t.t && t.t[i] ? measured(o, ...t.t[i]) : "–"))] : []),
    ]),
    ...app.data.knobs.map((name, k) => row(name, chosen.map(t => t.k[k] === null ? "not asked" : String(t.k[k])))),
    ...(chosen.some(t => app.data.layers[t.uid]) ? [row("layers, asked against got", chosen.map(t => layerTable(app.data.layers[t.uid] || {})))] : []),
    ...(chosen.some(t => t.notes) ? [row("left as it was", chosen.map(t => element("ul", {}, ...(t.notes || ["nothing"]).map(note => element("li", {}, note)))))] : []),
    ...(chosen.some(t => t.reused) ? [row("carried out before", chosen.map(t => t.reused || "nothing"))] : []),
    row("plan", chosen.map(t => element("pre", {}, app.data.plans[t.uid] || t.words)))));
}

function measured(objective, value, low, high) {
  const between = interval(low, high, objective.unit);
  return quantity(value, objective.unit) + (between && ` (${between})`);
}

// What became of each layer of a point: what was asked of it, what it got, what runs it, and why not in integers.
function layerTable(layers) {
  const short = number => typeof number === "number" ? String(+number.toPrecision(4)) : "–", numeric = { class: "number" };
  const heads = ["layer", "bits asked", "bits got", "bits in the file", "zeros", "shape", "runs as", "why in floats"];
  return element("table", { class: "layers" },
    element("thead", {}, element("tr", {}, ...heads.map(head => element("th", { scope: "col" }, head)))),
    element("tbody", {}, ...Object.entries(layers).map(([name, of]) => element("tr", {}, element("th", { scope: "row" }, name),
      ...[short(of.asked), short(of.bits), short(of.stored), `${short(of.sparsity * 100)} %`].map(text => element("td", numeric, text)),
      ...[of.shape.join("×"), of.kernel || "–", of.in_floats || ""].map(text => element("td", {}, text))))));
}

function fillCost(app) {
  const { data } = app, byStatus = new Map();
  for (const t of data.trials) {
    const name = t.baseline ? "baseline" : t.status, sum = byStatus.get(name) || [0, 0];
    byStatus.set(name, [sum[0] + 1, sum[1] + t.wall]);
  }
  const number = text => element("td", { class: "number" }, text);
  document.getElementById("cost").append(
    element("thead", {}, element("tr", {}, element("th", {}, "trials"), element("th", { class: "number" }, "how many"), element("th", { class: "number" }, "wall time"))),
    element("tbody", {}, ...[...byStatus].map(([name, [count, wall]]) => element("tr", {}, element("td", {}, name), number(count), number(duration(wall)))),
      ...Object.entries(data.cost).map(([name, sum]) => element("tr", {}, element("td", {}, element("b", {}, `all, ${name.replace(/_s$/, "").replaceAll("_", " ")}`)), number(""), number(name.endsWith("_s") ? duration(sum) : sum.toPrecision(4)))),
      element("tr", {}, element("td", {}, element("b", {}, "from start to last event")), number(""), number(duration(data.updated - data.started)))));
}

function fillFailures(app, where) {
  const groups = new Map();
  for (const t of app.data.trials) {
    if (!t.why) continue;
    const key = `${t.status}\u0000${t.why}`;
    groups.set(key, [...(groups.get(key) || []), t]);
  }
  if (!groups.size) return where.append(element("p", { class: "hint" }, "Everything that was started finished."));
  for (const trials of [...groups.values()].sort((a, b) => b.length - a.length)) {
    const { status, why } = trials[0];
    where.append(element("details", { class: "group" },
      element("summary", {}, element("b", {}, status), `${why} `, element("span", { class: "hint" }, `${trials.length} trial${trials.length > 1 ? "s" : ""}`)),
      ...trials.slice(0, 40).map(t => element("p", { class: "words" }, `${t.uid}: ${t.words}`)),
      trials.length > 40 ? element("p", { class: "hint" }, `and ${trials.length - 40} more`) : null,
      trials[0].detail ? element("pre", {}, trials[0].detail) : null));
  }
}

// The front as a table, with the trials that cannot be told from it.
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
    element("td", {}, trial.words, noted(trial)));
}

// An undecided trial: off the front, but not dominated beyond the intervals. No wish selects it, so it has no button.
function undecidedRow(app, trial) {
  return element("tr", {}, element("td", { title: "off the front, but not distinguishable from it" }, "≈"), element("td", {}, trial.uid),
    ...app.objectives.map((o, i) => element("td", { class: "number" }, quantity(trial.v[i], o.unit), element("small", {}, beside(trial, i, o.unit)))),
    ...app.tested.map(() => element("td", { class: "number" }, "–")), element("td", {}, trial.words, noted(trial)));
}

// What the user has noted of a trial.
function noted(trial) { return trial.noted ? element("small", { class: "noted", title: trial.noted }, trial.noted) : null; }

function testCell(objective, reading) {
  if (!reading) return element("td", { class: "number" }, "–");
  return element("td", { class: "number" }, quantity(reading[0], objective.unit), element("small", {}, interval(reading[1], reading[2], objective.unit)));
}

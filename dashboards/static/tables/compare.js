// Up to four trials side by side.
function fillCompare(app) {
  const table = document.getElementById("compare"), chosen = [...app.pinned];
  document.getElementById("compare-panel").hidden = !app.measured.length;
  table.replaceChildren();
  if (!chosen.length) return;
  const row = (name, cells, kind) => {  // `detail` and `whole` are text; the latter takes the width of a telephone for each trial
    const texts = cells.map(cell => cell instanceof Node ? cell.textContent : String(cell)), differs = new Set(texts).size > 1;
    return element("tr", { class: [differs && "differs", kind].filter(Boolean).join(" ") || null },
      element("th", { scope: "row" }, name), ...cells.map((cell, i) => element("td", { "data-trial": chosen[i].uid }, cell)));
  };
  const layers = chosen.map(t => app.data.layers[t.uid]), named = [...new Set(layers.flatMap(of => Object.keys(of || {})))];
  table.append(element("thead", {}, element("tr", {}, element("th"), ...chosen.map(t => element("th", { scope: "col" }, t.uid, " ",
    element("button", { type: "button", "aria-label": `take ${t.uid} away`, onclick: () => app.pin(t) }, "×"))))));
  table.append(element("tbody", {},
    ...app.objectives.flatMap((o, i) => [
      row(o.meter, chosen.map(t => measured(o, t.v[i], t.l[i], t.h[i]))),
      row("  against the baseline", chosen.map(t => gain(t.v[i], o))),
      ...(app.tested.includes(i) ? [row("  on the test split", chosen.map(t => t.t && t.t[i] ? measured(o, ...t.t[i]) : "–"))] : []),
    ]),
    ...app.data.knobs.map((name, k) => row(name, chosen.map(t => knobText(t.k[k])))),
    ...named.map(name => row(`layer ${name}`, layers.map(of => inLayer(of, name)), "detail")),
    ...(chosen.some(t => t.notes) ? [row("left as it was", chosen.map(t => element("ul", {}, ...(t.notes || ["nothing"]).map(note => element("li", {}, note)))), "whole")] : []),
    ...(chosen.some(t => t.reused) ? [row("carried out before", chosen.map(t => t.reused || "nothing"))] : []),
    ...(chosen.some(t => t.noted) ? [row("noted", chosen.map(t => t.noted || "nothing"))] : []),
    row("plan", chosen.map(t => element("pre", {}, app.data.plans[t.uid] || t.words)), "whole")));
}

function knobText(value) {
  return value === null ? "not asked" : typeof value === "number" ? String(+value.toPrecision(4)) : String(value);
}

function inLayer(layers, name) {
  if (!layers) return "not recorded";
  return layers[name] ? element("div", {}, ...layerLines(layers[name])) : "removed";
}

function measured(objective, value, low, high) {
  const between = interval(low, high, objective.unit);
  return quantity(value, objective.unit) + (between && ` (${between})`);
}

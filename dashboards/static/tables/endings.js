// What the trials cost, and what did not finish.
const COSTS = { wall_s: "of it training, exporting and measuring", measure_wall_s: "of it measuring", cpu_s: "CPU time of training" };

function fillCost(app) {
  const { data } = app, byStatus = new Map();
  for (const t of data.trials) {
    const name = t.baseline ? "baseline" : t.status, sum = byStatus.get(name) || [0, 0];
    byStatus.set(name, [sum[0] + 1, sum[1] + t.wall]);
  }
  const number = text => element("td", { class: "number" }, text);
  const whole = (name, text) => element("tr", {}, element("td", {}, element("b", {}, name)), number(""), number(text));
  const named = name => COSTS[name] || `all, ${name.replace(/_s$/, "").replaceAll("_", " ")}`;
  const order = name => (Object.keys(COSTS).indexOf(name) + 9) % 9;  // those that are not named come last
  document.getElementById("cost").append(
    element("thead", {}, element("tr", {}, element("th", {}, "trials"), element("th", { class: "number" }, "how many"), element("th", { class: "number" }, "time"))),
    element("tbody", {}, ...[...byStatus].map(([name, [count, wall]]) => element("tr", {}, element("td", {}, name), number(count), number(duration(wall)))),
      whole("all, with their waiting", duration(data.trials.reduce((sum, t) => sum + t.wall, 0))),
      ...Object.entries(data.cost).sort((a, b) => order(a[0]) - order(b[0])).map(([name, sum]) => whole(named(name), name.endsWith("_s") ? duration(sum) : sum.toPrecision(4))),
      whole("from the sweep's start to its last event", duration(data.updated - data.started))));
}

function fillFailures(app, where) {
  const groups = new Map(), calm = "stopped early";
  for (const t of app.data.trials) {
    if (!t.why) continue;
    const key = t.status === calm ? calm : `${t.status}\u0000${t.why}`;
    groups.set(key, [...(groups.get(key) || []), t]);
  }
  if (!groups.size) return where.append(element("p", { class: "hint" }, "Everything that was started finished."));
  const failed = ([key, trials]) => key === calm ? 0 : trials.length;
  for (const [key, trials] of [...groups].sort((a, b) => failed(b) - failed(a))) where.append(key === calm ? stoppedEarly(trials) : endedBy(trials));
}

// Early stops are no failures: one group, with the reason of each.
function stoppedEarly(trials) {
  return element("details", { class: "group calm" },
    element("summary", {}, element("b", {}, "stopped early"), `${trials.length} trial${trials.length > 1 ? "s" : ""}: the rest of their training promised less than other trials`),
    ...trials.map(t => element("p", { class: "words" }, `${t.uid}: ${t.why}; ${t.words}`)));
}

function endedBy(trials) {
  const { status, why } = trials[0];
  return element("details", { class: "group" },
    element("summary", {}, element("b", {}, status), `${why} `, element("span", { class: "hint" }, `${trials.length} trial${trials.length > 1 ? "s" : ""}`)),
    ...trials.slice(0, 40).map(t => element("p", { class: "words" }, `${t.uid}: ${t.words}`)),
    trials.length > 40 ? element("p", { class: "hint" }, `and ${trials.length - 40} more`) : null,
    trials[0].detail ? element("pre", {}, trials[0].detail) : null);
}

function fillAdvice(app) {
  document.getElementById("advice-panel").hidden = !app.data.advice.length;
  document.getElementById("advice").replaceChildren(...app.data.advice.map(text => element("li", {}, text)));
}

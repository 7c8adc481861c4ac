// Every trial, with a search, a filter by state and sorting; a measured one can be chosen and put side by side.
const MOST_ROWS = 200;

class TrialTable {
  constructor(app, where) {
    this.app = app; this.sorted = { by: t => t.n, sign: 1 };
    const states = [...new Set(app.data.trials.map(t => this.state(t)))];
    this.search = element("input", { type: "search", placeholder: "plan, knob, name or note", "aria-label": "search the trials", oninput: () => this.fill() });
    this.state_ = element("select", { "aria-label": "state of the trials", onchange: () => this.fill() },
      element("option", { value: "" }, "all states"), ...states.map(name => element("option", { value: name }, name)));
    this.count = element("span", { class: "hint", "aria-live": "polite" });
    this.body = element("tbody");
    const table = element("table", { id: "trials" }, element("thead", {}, element("tr", {}, ...this.columns().map(column => this.heading(column)))), this.body);
    where.append(element("div", { class: "filters" }, this.search, this.state_, this.count), element("div", { class: "scroll" }, table));
    this.fill();
  }

  state(trial) { return trial.baseline ? "baseline" : trial.front ? "on the front" : trial.status; }

  columns() {
    const { objectives } = this.app;
    return [{ name: "", by: null }, { name: "trial", by: t => t.n }, { name: "state", by: t => this.state(t) },
      ...objectives.map((o, i) => ({ name: o.meter, by: t => t.v[i], number: true })),
      { name: "took", by: t => t.wall, number: true }, { name: "plan", by: t => t.words }];
  }

  heading(column) {
    const inside = column.by ? element("button", { type: "button", class: "quiet", onclick: () => this.sort(column) }, column.name)
      : element("span", { title: "side by side" }, "⇆");
    return element("th", { scope: "col", class: column.number ? "number" : null }, inside);
  }

  sort({ name, by }) {
    this.sorted = { by, sign: this.sorted.name === name ? -this.sorted.sign : 1, name };
    this.fill();
  }

  fill() {
    const { by, sign } = this.sorted, words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean), state = this.state_.value;
    const text = t => `${t.uid} ${t.words} ${t.why || ""} ${t.noted || ""} ${this.app.data.knobs.map((name, k) => `${name}=${t.k[k]}`).join(" ")}`.toLowerCase();
    const kept = this.app.data.trials.filter(t => (!state || this.state(t) === state) && words.every(word => text(t).includes(word)));
    const missing = value => value === null || value === undefined;
    kept.sort((a, b) => missing(by(a)) - missing(by(b)) || sign * (by(a) > by(b) ? 1 : by(a) < by(b) ? -1 : 0));
    this.count.textContent = `${kept.length} of ${this.app.data.trials.length} trials` + (kept.length > MOST_ROWS ? `, the first ${MOST_ROWS} are shown` : "");
    this.body.replaceChildren(...kept.slice(0, MOST_ROWS).map(t => this.row(t)));
  }

  row(trial) {
    const { app } = this, whole = app.measured.includes(trial) && trial.v.every(v => v !== null);
    const tick = whole && element("input", { type: "checkbox", "data-uid": trial.uid, checked: app.pinned.has(trial), "aria-label": `put ${trial.uid} of all trials side by side`, onchange: () => app.pin(trial) });
    const name = whole ? element("button", { type: "button", class: "quiet", onclick: () => app.select(trial) }, trial.uid) : trial.uid;
    return element("tr", {}, element("td", {}, tick || ""), element("td", {}, name), element("td", {}, this.state(trial), trial.why ? element("small", { class: "why", title: trial.why }, trial.why) : null),
      ...app.objectives.map((o, i) => element("td", { class: "number" }, trial.v[i] === null ? "–" : quantity(trial.v[i], o.unit), whole ? element("small", {}, gain(trial.v[i], o)) : null)),
      element("td", { class: "number" }, duration(trial.wall)), element("td", { class: "plan" }, trial.words, noted(trial)));
  }

  ticks() { for (const tick of this.body.querySelectorAll("input[data-uid]")) tick.checked = [...this.app.pinned].some(t => t.uid === tick.dataset.uid); }
  keep() { return { search: this.search.value, state: this.state_.value, sorted: this.sorted }; }
  restore(kept) { this.search.value = kept.search; this.state_.value = kept.state; this.sorted = kept.sorted; this.fill(); }
}

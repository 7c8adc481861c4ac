// The page: its state (limits, preference, choice, compared points) and everything that is drawn from it.
const app = {
  data: JSON.parse(document.getElementById("data").textContent),
  picked: null, byHand: false, pinned: new Set(), prefer: "knee", brushed: null, drawings: [], shown: [],

  start() {
    this.limits = [];
    this.build();
    this.followLink();
    new ResizeObserver(() => this.drawAll()).observe(document.body);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.recolour());
    document.getElementById("theme").addEventListener("click", event => this.theme(event.target));
    if (this.data.now) pollData(this);
  },

  build() {
    const { data } = this;
    this.objectives = data.objectives;
    if (this.limits.length !== this.objectives.length) this.limits = this.objectives.map(() => null);  // the journal was still empty
    this.measured = data.trials.filter(t => t.status === "complete" || t.status === "infeasible");
    const byUid = new Map(data.trials.map(t => [t.uid, t]));
    this.members = data.front.map(uid => byUid.get(uid));
    this.undecided = data.trials.filter(t => t.undecided);
    this.baseline = data.trials.find(t => t.baseline && t.status === "complete");
    this.tested = this.objectives.map((_, i) => i).filter(i => this.members.some(t => t.t && t.t[i]));
    this.heading(); this.legend(); this.controls();
    const plots = document.getElementById("plots"), m = this.objectives.length;
    const pairs = [];
    for (let a = 0; a < m; a++) for (let b = a + 1; b < m; b++) pairs.push([a, b]);
    pairs.sort((p, q) => (q[1] === m - 1) - (p[1] === m - 1));
    this.drawings = pairs.slice(0, 6).map(([x, y]) => new Scatter(this, x, y));
    if (m > 2) this.drawings.push(new SpaceView(this, [0, 1, m - 1]));
    plots.append(...this.drawings.map(drawing => drawing.figure));
    this.drawings.push(new Parallel(this, document.getElementById("parallel")), new Growth(this, document.getElementById("growth")),
      new Curves(this, document.getElementById("curves")), new Timeline(this, document.getElementById("timeline")));
    this.listed = new TrialTable(this, document.getElementById("all-trials"));
    drawInfluence(this, document.getElementById("influence"));
    fillFront(this); fillCost(this); fillFailures(this, document.getElementById("failures")); fillNow(this); fillLinks(this); fillAdvice(this);
    document.getElementById("config").textContent = data.config;
    document.getElementById("facts").textContent = data.facts;
    document.getElementById("front-hint").textContent = !this.members.length ? "Nothing is on the front yet."
      : (data.best_effort ? "No trial meets the sweep's limits; these miss them by least. " : "")
        + (data.frozen ? "The test split was read once, for these points only." : "The test split is read when the sweep ends.") + " Intervals are 95 %. Click a heading to sort."
        + (data.timed_on.length ? ` Times are of ${data.timed_on.join("; ")}.` : "");
    document.getElementById("sweep-limits").textContent = data.limits.length ? `Limits of the sweep: ${data.limits.map(l => l.words).join("; ")}.` : "";
    this.colours = palette();
  },

  // Replace the data: rebuild everything, but keep what the reader has set, chosen, opened and rotated.
  renew(data) {
    if (document.querySelector("input:active, canvas:active, select:focus")) return;  // in the middle of a gesture; the next poll tries again
    const kept = { picked: this.byHand && this.picked && this.picked.uid, pinned: [...this.pinned].map(t => t.uid), view: this.drawings.map(d => d.state ? d.state() : null), listed: this.listed.keep() };
    const focused = document.activeElement && document.activeElement.getAttribute("aria-label"), scroll = document.getElementById("front").closest(".scroll").scrollTop;
    for (const drawing of this.drawings) if (drawing.end) drawing.end();
    for (const id of ["summary", "limits", "plots", "parallel", "influence", "growth", "front", "compare", "cost", "failures", "curves", "timeline", "all-trials"]) document.getElementById(id).replaceChildren();
    for (const label of document.querySelectorAll("#prefer label")) label.remove();
    this.data = data; this.shown = []; this.brushed = null; this.picked = null; this.pinned = new Set();
    const limits = this.limits;
    this.build();
    limits.forEach((limit, i) => this.limit(i, limit));
    this.drawings.forEach((drawing, i) => { if (drawing.restore && kept.view[i]) drawing.restore(kept.view[i]); });
    this.listed.restore(kept.listed);
    for (const trial of this.measured) if (kept.pinned.includes(trial.uid)) this.pin(trial);
    this.ask();
    const chosen = this.measured.find(t => t.uid === kept.picked);
    if (chosen) this.select(chosen);
    document.getElementById("front").closest(".scroll").scrollTop = scroll;
    if (focused) { const again = document.querySelector(`[aria-label="${CSS.escape(focused)}"]`); if (again) again.focus({ preventScroll: true }); }
  },

  heading() {
    const { data } = this, count = status => data.trials.filter(t => !t.baseline && t.status === status).length;
    const others = ["infeasible", "stopped early", "failed", "interrupted", "running"].filter(count);
    document.getElementById("name").textContent = data.sweep;
    document.getElementById("story").textContent = data.story || "";
    document.getElementById("noted").textContent = data.note;
    const ended = data.status === "running" ? "running since" : `${data.status} on`;
    const day = new Date((data.status === "running" ? data.started : data.updated) * 1000).toISOString().slice(0, 16).replace("T", " ");
    const tiles = [[count("complete"), "trials complete"], ...others.map(name => [count(name), name]),
      [this.members.length, "on the front"], [duration(data.trials.reduce((sum, t) => sum + t.wall, 0)), "of trial time"], [day, `${ended} (UTC)`]];
    document.getElementById("summary").append(...tiles.map(([value, name]) => element("li", {}, element("b", {}, String(value)), element("span", {}, name))));
    document.title = `${data.sweep} · paretta`;
    if (data.reason) document.getElementById("story").append(data.status === "died" ? ` Its driver died, ${data.reason}` : ` Ended early: ${data.reason}`);
  },

  legend() {
    const svg = (shape, fill, stroke) => `<svg viewBox="-7 -7 14 14" aria-hidden="true"><path d="${shape}" fill="${fill}" stroke="${stroke}" stroke-width="1.6"/></svg>`;
    const circle = r => `M${-r},0a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0`;
    const entries = [["M0,-6L6,0L0,6L-6,0Z", "var(--front)", "none", "front, with its 95 % intervals"], [circle(3), "none", "var(--rest)", "dominated"],
      ...(this.undecided.length ? [["M0,-6L6,0L0,6L-6,0Z", "var(--panel)", "var(--front)", "≈ off the front, but not distinguishable from it"]] : []),
      ...(this.data.limits.some(l => l.bound !== null) ? [["M-7,0h14", "none", "var(--bad)", "limit of the sweep"]] : []),
      ["M-4.5,-4.5h9v9h-9Z", "var(--base)", "none", "baseline"], [circle(6), "none", "var(--pick)", "your choice"], ["M-7,0h5M0,0h5", "none", "var(--pick)", "your limit"]];
    document.getElementById("legend").innerHTML = entries.map(([shape, fill, stroke, name]) => `<span>${svg(shape, fill, stroke)}${name}</span>`).join("");
  },

  controls() {
    const form = document.getElementById("limits"), prefer = document.getElementById("prefer");
    form.append(...this.objectives.map((objective, i) => this.slider(objective, i)).filter(made => made));
    for (const name of ["knee", ...this.objectives.map(o => o.meter)]) {
      const input = element("input", { type: "radio", name: "prefer", value: name, checked: name === this.prefer, onchange: () => { this.prefer = name; this.ask(); } });
      prefer.append(element("label", { title: name === "knee" ? "the best balance of everything" : `the best ${name}` }, input, " " + name));
    }
  },

  slider(objective, i) {
    const values = this.members.map(t => t.v[i]);
    if (values.length < 2) return null;
    const low = Math.min(...values), high = Math.max(...values), log = isLog(objective, values), down = objective.goal === "min";
    const words = `${objective.meter}, ${down ? "at most" : "at least"}`, input = element("input", { type: "range", min: 0, max: 200, value: down ? 200 : 0, "aria-label": words });
    const shown = element("b", {}, "any");
    input.addEventListener("input", () => {
      const part = input.value / 200, value = log ? low * (high / low) ** part : low + (high - low) * part;
      this.limit(i, part === (down ? 1 : 0) ? null : outward(value, objective, objective.unit === "share" ? 4 : 3));
      this.ask();
    });
    this.shown[i] = limit => {
      shown.textContent = limit === null ? "any" : (down ? "≤ " : "≥ ") + quantity(limit, objective.unit);
      input.setAttribute("aria-valuetext", shown.textContent);
      if (document.activeElement === input) return;
      input.value = limit === null ? (down ? 200 : 0) : 200 * (log ? Math.log(limit / low) / Math.log(high / low) : (limit - low) / (high - low));
    };
    return element("div", { class: "limit" }, element("div", {}, element("span", {}, words), shown), input);
  },

  limit(i, value) {
    this.limits[i] = value;
    if (this.shown[i]) this.shown[i](value);
  },

  // `#prefer=size&accuracy=0.97` opens on that wish, `#trial=UID` on that point; limits are in base units.
  followLink() {
    const wish = new URLSearchParams(location.hash.slice(1)), chosen = this.measured.find(t => t.uid === wish.get("trial"));
    for (const input of document.querySelectorAll("#prefer input")) {
      if (input.value === wish.get("prefer")) { input.checked = true; this.prefer = input.value; }
    }
    this.objectives.forEach((objective, i) => { if (wish.has(objective.meter)) this.limit(i, Number(wish.get(objective.meter))); });
    this.ask();
    if (chosen) this.select(chosen);
  },

  ask() {
    this.byHand = false;
    const found = this.members.length ? choose(this.members, this.limits, this.prefer, this.objectives) : null;
    this.show(found, found && pullCommand(this.data.sweep, this.data.at, this.limits, this.prefer, this.objectives));
  },

  select(trial) {
    if (!trial || !this.measured.includes(trial) || trial.v.includes(null)) return;
    this.byHand = true;
    if (!trial.front) return this.show(trial, ["paretta pull", /^[\w.\-]+$/.test(this.data.sweep) ? `${this.data.sweep}@${trial.uid}` : `'${this.data.sweep}@${trial.uid}'`].concat(this.data.at || [], "--to ./model").join(" "));
    const wish = wishFor(trial, this.members, this.objectives);
    this.show(trial, pullCommand(this.data.sweep, this.data.at, wish.limits, wish.prefer, this.objectives));
    const frame = trial.row.closest(".scroll"), top = trial.row.offsetTop - 40;  // scroll the table, not the page
    if (top < frame.scrollTop || top + trial.row.offsetHeight > frame.scrollTop + frame.clientHeight - 40) frame.scrollTop = top;
  },

  show(trial, command) {
    this.picked = trial;
    const output = document.getElementById("picked");
    for (const member of this.members) member.row && member.row.classList.toggle("picked", member === trial);
    if (!trial) output.replaceChildren(element("p", { class: "answer" }, this.members.length ? "Nothing on the front is within these limits." : "Nothing has finished yet."),
      element("p", { class: "words" }, this.members.length ? "Loosen one of them." : ""));
    else output.replaceChildren(
      element("p", { class: "answer" }, trial.baseline ? "The baseline itself" : `Trial ${trial.uid}`, " ", ...(trial.roles || []).map(role => element("span", { class: "role" }, role))),
      element("p", { class: "words" }, trial.words, noted(trial)),
      element("dl", { class: "readings" }, ...this.objectives.flatMap((o, i) => [element("dt", {}, o.meter),
        element("dd", {}, quantity(trial.v[i], o.unit), element("small", {}, beside(trial, i, o.unit))),
        element("dd", { class: "gain" }, gain(trial.v[i], o))])),
      this.command(command));
    fillLayers(this, trial);
    this.drawAll();
  },

  command(text) {
    const code = element("code", { tabindex: "0" }, text);
    const button = element("button", { type: "button", title: "copy the command", onclick: () => {
      getSelection().selectAllChildren(code);
      const done = () => { button.textContent = "Copied"; setTimeout(() => { button.textContent = "Copy"; }, 1500); };
      const sealed = () => { button.textContent = document.execCommand("copy") ? "Copied" : "Press Ctrl-C"; };
      if (navigator.clipboard) navigator.clipboard.writeText(text).then(done, sealed); else sealed();
    } }, "Copy");
    return element("div", { class: "command" }, code, button);
  },

  pin(trial) {
    if (!trial || !this.measured.includes(trial) || trial.v.includes(null)) return;
    if (!this.pinned.delete(trial)) this.pinned.add(trial);
    if (this.pinned.size > 4) this.pinned.delete([...this.pinned][0]);
    for (const member of this.members) member.tick.checked = this.pinned.has(member);
    this.listed.ticks();
    fillCompare(this);
  },

  passes(trial) { return fits(trial, this.limits, this.objectives) && (!this.brushed || this.brushed.has(trial)); },

  hover(trial, event) {
    const tip = document.getElementById("tip");
    tip.hidden = !trial;
    if (!trial) return;
    tip.replaceChildren(element("b", {}, `${trial.uid} · ${trial.front ? "front" : trial.baseline ? "baseline" : trial.undecided ? "≈ not distinguishable from the front" : "dominated"}`), trial.words,
      ...this.objectives.map((o, i) => element("div", {}, `${o.meter}  ${quantity(trial.v[i], o.unit)}  ${gain(trial.v[i], o)}`)));
    const right = event.clientX + 340 > innerWidth;
    tip.style.left = (right ? event.clientX - tip.offsetWidth - 14 : event.clientX + 14) + "px";
    tip.style.top = Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8) + "px";
  },

  theme(button) {
    const next = { undefined: "light", light: "dark", dark: undefined }[document.documentElement.dataset.theme];
    if (next) document.documentElement.dataset.theme = next; else delete document.documentElement.dataset.theme;
    button.textContent = `Theme: ${next || "system"}`;
    this.recolour();
  },

  recolour() { this.colours = palette(); this.drawAll(); },
  drawAll() { for (const drawing of this.drawings) drawing.draw(); },
};

app.start();

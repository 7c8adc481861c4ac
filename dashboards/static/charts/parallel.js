// Parallel coordinates: every complete trial as a line over its knobs and readings, filtered by brushing. Where the axes
// do not fit beside each other, as on a telephone, they lie below each other and the lines run downwards.
const NOT_ASKED = 1.09, NARROWEST_AXIS = 88, ROW = 58;

class Parallel {
  constructor(app, where) {
    this.app = app; this.brushes = new Map();
    this.trials = app.measured.filter(t => !t.baseline);
    this.axes = [...this.knobAxes(), ...app.objectives.map((o, i) => this.axis(o.meter, o.unit, t => t.v[i], true, o))].filter(axis => axis);
    this.canvas = element("canvas", { role: "img", "aria-label": "Parallel coordinates of knobs and readings; the axis names below take the keyboard." });
    this.names = this.axes.map(axis => this.button(axis));
    this.where = where;
    where.append(element("div", { class: "axes" }, ...this.names), this.canvas);
    this.drag();
  }

  knobAxes() {
    const weight = k => Math.max(0, ...Object.values(this.app.data.influence).map(shares => shares[this.app.data.knobs[k]] || 0));
    const order = this.app.data.knobs.map((_, k) => k).sort((a, b) => weight(b) - weight(a)).slice(0, 8).sort((a, b) => a - b);
    return order.map(k => this.axis(this.app.data.knobs[k], "", t => t.k[k], false));
  }

  axis(name, unit, read, target, objective) {
    const values = this.trials.map(read).filter(v => v !== null && v !== undefined), kinds = [...new Set(values)];
    if (kinds.length < 2) return null;
    if (values.every(v => typeof v === "number")) {
      const log = objective ? isLog(objective, values) : spreadsByFactors(values);
      const pad = kinds.length < this.trials.length ? .04 : 0;
      const place = scaleOf(Math.min(...values), Math.max(...values), log, 1 - pad, pad, .24);
      if (!target && values.every(Number.isInteger)) place.ticks = place.ticks.filter(Number.isInteger);
      return { name, unit, target, place: t => { const v = read(t); return v === null || v === undefined ? NOT_ASKED : place(v); }, ticks: place.ticks.map(v => [place(v), tickText(v, unit)]), gaps: values.length < this.trials.length };
    }
    const names = kinds.map(String).sort(), at = v => names.length === 1 ? .5 : .06 + .88 * names.indexOf(String(v)) / (names.length - 1);
    return { name, unit, target, place: t => read(t) === null ? NOT_ASKED : at(read(t)), ticks: names.map(v => [at(v), v]), gaps: values.length < this.trials.length };
  }

  button(axis) {
    return element("button", {
      type: "button", class: axis.target ? "target" : null, "aria-pressed": "false", "aria-label": `${axis.name}: range kept`,
      onclick: () => this.brush(axis, null), onkeydown: event => this.key(axis, event),
    }, ...axis.name.split(/(?<=[.@])/).flatMap((part, i) => i ? [element("wbr"), part] : [part]));
  }

  key(axis, event) {
    const step = { ArrowUp: -.05, ArrowRight: -.05, ArrowDown: .05, ArrowLeft: .05 }[event.key], [a, b] = this.brushes.get(axis) || [0, event.shiftKey ? 1 : .3];
    if (event.key === "Escape") this.brush(axis, null);
    else if (step && event.shiftKey) this.brush(axis, [Math.max(a + Math.min(step, 0) , 0), Math.min(b + Math.max(step, 0), 1)]);
    else if (step) this.brush(axis, [Math.min(Math.max(a + step, 0), 1 - (b - a)), Math.max(Math.min(b + step, 1), b - a)]);
    else return;
    event.preventDefault();
  }

  drag() {
    let held = null;
    const at = event => this.partAt(this.down ? event.offsetX : event.offsetY);
    this.canvas.addEventListener("pointerdown", event => {
      const away = axis => Math.abs(axis.at - (this.down ? event.offsetY : event.offsetX));
      const axis = this.axes.reduce((best, a) => away(a) < away(best) ? a : best, this.axes[0]);
      if (!axis || away(axis) > 22) return;
      held = [axis, at(event)]; this.canvas.setPointerCapture(event.pointerId);
    });
    this.canvas.addEventListener("pointermove", event => { if (held) this.brush(held[0], [Math.min(held[1], at(event)), Math.max(held[1], at(event))]); });
    this.canvas.addEventListener("pointerup", event => { if (held && Math.abs(held[1] - at(event)) < .015) this.brush(held[0], null); held = null; });
  }

  brush(axis, range) {
    if (range) this.brushes.set(axis, range); else this.brushes.delete(axis);
    this.names[this.axes.indexOf(axis)].setAttribute("aria-pressed", String(Boolean(range)));
    this.app.brushed = this.brushes.size ? new Set(this.trials.filter(t => this.keeps(t))) : null;
    const kept = this.app.brushed, members = kept && this.app.members.filter(t => kept.has(t)).length;
    document.getElementById("brushed").textContent = kept ? `${kept.size} of ${this.trials.length} trials kept, ${members} of them on the front.` : "";
    this.app.drawAll();
  }

  state() { return [...this.brushes].map(([axis, range]) => [axis.name, range]); }
  restore(state) {
    for (const [name, range] of state) { const axis = this.axes.find(a => a.name === name); if (axis) this.brush(axis, range); }
  }

  keeps(trial) {
    return [...this.brushes].every(([axis, [a, b]]) => { const y = axis.place(trial); return y >= a - 1e-9 && y <= b + 1e-9; });
  }

  // Set where each axis lies, `axis.at`, and from where to where it runs, which `along` and `partAt` convert to and from.
  layOut() {
    const room = this.where.clientWidth, many = this.axes.length;
    this.down = room < many * NARROWEST_AXIS;
    this.where.classList.toggle("down", this.down);
    this.canvas.style.height = this.down ? many * ROW + "px" : "";
    const { pen, width, height } = prepare(this.canvas);
    this.ends = this.down ? [width - 16, this.axes.some(axis => axis.gaps) ? 74 : 16] : [8, height - 34];
    const apart = this.down ? ROW : many === 1 ? width - 140 : (width - 140) / (many - 1);
    this.axes.forEach((axis, i) => {
      axis.at = this.down ? i * ROW + 30 : many === 1 ? width / 2 : 70 + i * apart;
      const { style } = this.names[i];
      style.left = this.down ? "0" : axis.at + "px";
      style.top = this.down ? axis.at - 28 + "px" : "";
      style.maxWidth = this.down ? "100%" : apart - 6 + "px";  // a long name wraps, and never meets its neighbour
    });
    return pen;
  }

  along(part) {
    const [from, to] = this.ends;
    return this.down && part > 1 ? 30 : from + part * (to - from);
  }

  partAt(place) {
    const [from, to] = this.ends;
    return this.down && place < to - 20 ? NOT_ASKED : (place - from) / (to - from);
  }

  spot(axis, part) { return this.down ? [this.along(part), axis.at] : [axis.at, this.along(part)]; }

  draw() {
    const pen = this.layOut(), colours = this.app.colours;
    const line = trial => { pen.beginPath(); this.axes.forEach((axis, i) => pen[i ? "lineTo" : "moveTo"](...this.spot(axis, axis.place(trial)))); pen.stroke(); };
    for (const front of [false, true]) {
      for (const trial of this.trials) {
        if (Boolean(trial.front) !== front) continue;
        const on = this.app.passes(trial), many = this.trials.length > 300;
        pen.globalAlpha = front ? (on ? .85 : .08) : on ? (many ? .16 : .4) : .04;
        pen.strokeStyle = front ? colours.front : colours.rest; pen.lineWidth = front ? 1.6 : 1;
        line(trial);
      }
    }
    pen.globalAlpha = 1;
    if (this.app.picked && this.trials.includes(this.app.picked)) { pen.strokeStyle = colours.pick; pen.lineWidth = 3; line(this.app.picked); }
    this.rails(pen, colours);
  }

  rails(pen, colours) {
    pen.textAlign = this.down ? "center" : "left"; pen.textBaseline = "middle"; pen.font = "11px system-ui, sans-serif";
    for (const axis of this.axes) {
      pen.strokeStyle = colours.soft; pen.lineWidth = 1; pen.beginPath(); pen.moveTo(...this.spot(axis, 0)); pen.lineTo(...this.spot(axis, 1)); pen.stroke();
      this.labels(pen, axis, colours);
      const range = this.brushes.get(axis);
      if (range) this.kept(pen, axis, range.map(part => this.along(part)).sort((a, b) => a - b), colours);
    }
  }

  // The range that a brush keeps, as a bar over its axis.
  kept(pen, axis, [low, high], colours) {
    const long = Math.max(high - low, 3);
    pen.fillStyle = colours.pick; pen.globalAlpha = .35;
    if (this.down) pen.fillRect(low, axis.at - 7, long, 14); else pen.fillRect(axis.at - 7, low, 14, long);
    pen.globalAlpha = 1;
  }

  labels(pen, axis, colours) {
    const marks = axis.gaps ? [...axis.ticks, [NOT_ASKED, "not asked"]] : axis.ticks;
    if (!this.down) { for (const [part, text] of marks) this.label(pen, text, axis.at + 5, this.along(part), colours); return; }
    let end = -1e9;
    for (const [part, text] of [...marks].sort((a, b) => b[0] - a[0])) {  // from the left; one that would meet its neighbour is left out
      const half = pen.measureText(text).width / 2, x = Math.min(Math.max(this.along(part), half + 2), this.where.clientWidth - half - 2);
      if (x - half < end + 6) continue;
      this.label(pen, text, x, axis.at + 12, colours); end = x + half;
    }
  }

  label(pen, text, x, y, colours) {
    pen.lineWidth = 4; pen.lineJoin = "round"; pen.strokeStyle = colours.panel; pen.strokeText(text, x, y); pen.fillStyle = colours.ink; pen.fillText(text, x, y);
  }
}

// Whether the median lies closer to the middle of a logarithmic scale than of a linear one.
function spreadsByFactors(values) {
  const sorted = [...values].sort((a, b) => a - b), low = sorted[0], high = sorted.at(-1), middle = sorted[sorted.length >> 1];
  if (low <= 0 || high / low < 8) return false;
  return Math.abs(Math.log(middle / low) / Math.log(high / low) - .5) < Math.abs((middle - low) / (high - low) - .5);
}

function drawInfluence(app, where) {
  const shares = Object.entries(app.data.influence);
  if (!shares.length) return;
  where.append(element("div", { class: "bars" }, ...shares.map(([meter, byKnob]) => element("div", {},
    element("h3", {}, `What moves ${meter}`),
    ...Object.entries(byKnob).sort((a, b) => b[1] - a[1]).slice(0, 8).map(([knob, share]) => element("div", { class: "bar" },
      element("span", { title: knob }, knob), element("span", {}, element("i", { style: null, "data-share": share })), element("b", {}, Math.round(share * 100) + " %")))))),
  element("p", { class: "hint" }, "Share of the variance over the complete trials that a knob explains by itself (epsilon squared). Interactions of knobs are not included, and with fewer than fifty trials it is a rough estimate."));
  for (const bar of where.querySelectorAll("i")) bar.style.width = Math.max(bar.dataset.share * 100, .5) + "%";
}

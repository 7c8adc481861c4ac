// Two objectives against each other: the front with its intervals, what it dominates, the limits and the choice.
class Scatter {
  constructor(app, x, y) {
    this.app = app; this.x = x; this.y = y;
    const [ox, oy] = [app.objectives[x], app.objectives[y]];
    this.near = element("input", { type: "checkbox", checked: true, onchange: () => this.draw() });
    this.canvas = element("canvas", { tabindex: "0", role: "application", "aria-label": `${oy.meter} against ${ox.meter}. Arrow keys move along the front, Enter adds a point to the comparison.` });
    this.note = element("span", { class: "note" });
    this.figure = element("figure", { class: "panel" },
      element("figcaption", {}, `${oy.meter} against ${ox.meter}`, element("label", {}, this.near, " near the front")), this.canvas, this.note);
    this.trials = app.measured.filter(t => t.v[x] !== null && t.v[y] !== null);
    this.canvas.addEventListener("mousemove", event => this.app.hover(nearest(this.spots, event.offsetX, event.offsetY, 14), event));
    this.canvas.addEventListener("mouseleave", () => this.app.hover(null));
    this.canvas.addEventListener("click", event => this.app.select(nearest(this.spots, event.offsetX, event.offsetY, 18)));
    this.canvas.addEventListener("dblclick", event => this.app.pin(nearest(this.spots, event.offsetX, event.offsetY, 18)));
    this.canvas.addEventListener("keydown", event => this.key(event));
  }

  key(event) {
    const along = [...this.app.members].sort((a, b) => a.v[this.x] - b.v[this.x]);
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
    if (step) this.app.select(along[Math.min(Math.max(along.indexOf(this.app.picked) + step, 0), along.length - 1)]);
    else if (event.key === "Enter") this.app.pin(this.app.picked);
    else return;
    event.preventDefault();
  }

  range(i) {
    const shown = this.near.checked && this.app.members.length > 1 ? this.app.members.concat(this.app.baseline || [], this.app.undecided) : this.trials;
    const values = shown.map(t => t.v[i]).filter(v => v !== null);
    const log = isLog(this.app.objectives[i], values);
    const [low, high] = extent(values, log);
    return [low, this.app.objectives[i].unit === "share" ? Math.min(high, 1) : high, log];
  }

  draw() {
    const { app } = this, colours = app.colours, { pen, width, height } = prepare(this.canvas);
    const box = { left: 62, right: width - 12, top: 10, bottom: height - 36 };
    const [xl, xh, xlog] = this.range(this.x), [yl, yh, ylog] = this.range(this.y);
    const unit = i => app.objectives[i].unit;
    const px = scaleOf(xl, xh, xlog, box.left, box.right, 70, unit(this.x)), py = scaleOf(yl, yh, ylog, box.bottom, box.top, 42, unit(this.y));
    this.frame(pen, box, px, py, colours);
    this.spots = this.trials.filter(t => px.inside(t.v[this.x]) && py.inside(t.v[this.y]))
      .map(trial => ({ trial, x: px(trial.v[this.x]), y: py(trial.v[this.y]) }));
    const outside = this.trials.length - this.spots.length;
    this.note.textContent = outside ? `${outside} of ${this.trials.length} outside` : "";
    const within = margin => { pen.save(); pen.beginPath(); pen.rect(box.left - margin, box.top - margin, box.right - box.left + 2 * margin, box.bottom - box.top + 2 * margin); pen.clip(); };
    within(0);
    this.shade(pen, box, px, py, colours);
    const passes = spot => app.passes(spot.trial), faint = Math.min(.9, 18 / Math.sqrt(this.spots.length));
    for (const spot of this.spots) if (spot.trial.front || spot.trial.undecided) this.whiskers(pen, spot, px, py, colours, passes(spot) ? .55 : .15);
    pen.restore(); within(11);  // a mark at the edge, as at 100 %, is drawn whole
    for (const kind of ["rest", "undecided", "base", "front"]) {
      for (const spot of this.spots) {
        if (kindOf(spot.trial) !== kind) continue;
        pen.globalAlpha = kind === "rest" ? (passes(spot) ? faint : .4 * faint) : passes(spot) ? 1 : .3;
        mark(pen, kind, spot.x, spot.y, kind === "front" ? 5.5 : 4.5, colours);
      }
    }
    pen.globalAlpha = 1;
    const chosen = this.spots.find(spot => spot.trial === app.picked);
    if (chosen) ring(pen, chosen.x, chosen.y, colours);
    pen.restore();
  }

  frame(pen, box, px, py, colours) {
    const { app } = this, [ox, oy] = [app.objectives[this.x], app.objectives[this.y]];
    pen.strokeStyle = colours.grid; pen.fillStyle = colours.soft; pen.lineWidth = 1;
    pen.textAlign = "center"; pen.textBaseline = "top";
    let end = -1e9;
    for (const tick of px.ticks) {
      const x = px(tick), text = tickText(tick, ox.unit), half = pen.measureText(text).width / 2;
      pen.beginPath(); pen.moveTo(x, box.top); pen.lineTo(x, box.bottom); pen.stroke();
      if (x - half > end + 8 && x + half < box.right + 12) { pen.fillText(text, x, box.bottom + 5); end = x + half; }
    }
    pen.textAlign = "right"; pen.textBaseline = "middle";
    for (const tick of py.ticks) {
      const y = py(tick);
      pen.beginPath(); pen.moveTo(box.left, y); pen.lineTo(box.right, y); pen.stroke();
      pen.fillText(tickText(tick, oy.unit), box.left - 6, y);
    }
    pen.strokeStyle = colours.line; pen.strokeRect(box.left, box.top, box.right - box.left, box.bottom - box.top);
    pen.textBaseline = "bottom"; pen.fillStyle = colours.soft;
    const better = o => o.goal === "min" ? "less is better" : "more is better";
    pen.fillText(`${ox.meter}, ${better(ox)}`, box.right, pen.canvas.clientHeight - 2);
    pen.textAlign = "left"; pen.fillText(`${oy.meter}, ${better(oy)}`, 4, pen.canvas.clientHeight - 2);
  }

  shade(pen, box, px, py, colours) {
    this.bounds(pen, box, px, py, colours);
    pen.strokeStyle = colours.pick; pen.lineWidth = 1.3; pen.setLineDash([5, 4]);
    const [lx, ly] = [this.app.limits[this.x], this.app.limits[this.y]];
    pen.beginPath();
    if (lx !== null) { pen.moveTo(px(lx), box.top); pen.lineTo(px(lx), box.bottom); }
    if (ly !== null) { pen.moveTo(box.left, py(ly)); pen.lineTo(box.right, py(ly)); }
    pen.stroke(); pen.setLineDash([]);
  }

  // The sweep's own limits: a line, hatched on the infeasible side.
  bounds(pen, box, px, py, colours) {
    pen.strokeStyle = colours.bad; pen.lineWidth = 1.2; pen.beginPath();
    for (const { i, bound, side } of this.app.data.limits) {
      if (bound === null || i !== this.x && i !== this.y) continue;
      const out = side === "at_most" ? 1 : -1;
      if (i === this.x && px.inside(bound)) {
        const x = px(bound); pen.moveTo(x, box.top); pen.lineTo(x, box.bottom);
        for (let y = box.top + 8; y < box.bottom; y += 14) { pen.moveTo(x, y); pen.lineTo(x + out * 6, y - 5); }
      } else if (i === this.y && py.inside(bound)) {
        const y = py(bound); pen.moveTo(box.left, y); pen.lineTo(box.right, y);
        for (let x = box.left + 8; x < box.right; x += 14) { pen.moveTo(x, y); pen.lineTo(x + 5, y - out * 6); }
      }
    }
    pen.stroke();
  }

  state() { return { near: this.near.checked }; }
  restore(state) { this.near.checked = state.near; }

  whiskers(pen, spot, px, py, colours, alpha) {
    const { l, h } = spot.trial;
    pen.globalAlpha = alpha; pen.strokeStyle = colours.front; pen.lineWidth = 1.2; pen.beginPath();
    if (l[this.x] !== null && h[this.x] !== null) { pen.moveTo(px(l[this.x]), spot.y); pen.lineTo(px(h[this.x]), spot.y); }
    if (l[this.y] !== null && h[this.y] !== null) { pen.moveTo(spot.x, py(l[this.y])); pen.lineTo(spot.x, py(h[this.y])); }
    pen.stroke(); pen.globalAlpha = 1;
  }
}

// Three objectives as a rotating 3-D plot: better is towards the near lower corner; lines drop from the front to the floor.
class SpaceView {
  constructor(app, axes) {
    this.app = app; this.axes = axes; this.turn = -.7; this.tilt = .42;
    this.spinning = !matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.button = element("button", { type: "button", onclick: () => this.spin(!this.spinning) });
    this.canvas = element("canvas", { tabindex: "0", role: "application", "aria-label": "Three objectives in 3-D. Arrow keys rotate it, space stops or starts the rotation." });
    this.figure = element("figure", { class: "panel" }, element("figcaption", {}, "all three, in space", this.button), this.canvas);
    this.trials = app.measured.filter(t => axes.every(i => t.v[i] !== null));
    this.scales = axes.map(i => this.scale(i));
    this.listen();
    this.spin(this.spinning);
  }

  scale(i) {
    const shown = this.app.members.length > 1 ? this.app.members : this.trials, values = shown.map(t => t.v[i]);
    const log = isLog(this.app.objectives[i], values), [low, high] = extent(values, log);
    const place = scaleOf(low, high, log, -1, 1);
    place.ends = [low, high];
    return place;
  }

  listen() {
    const { canvas } = this;
    let held = null;
    canvas.addEventListener("pointerdown", event => { held = [event.clientX, event.clientY, this.turn, this.tilt, false]; canvas.setPointerCapture(event.pointerId); });
    canvas.addEventListener("pointermove", event => {
      if (!held) return this.app.hover(nearest(this.spots, event.offsetX, event.offsetY, 14), event);
      const [x, y] = [event.clientX - held[0], event.clientY - held[1]];
      if (Math.abs(x) + Math.abs(y) > 3) { held[4] = true; this.spin(false); }
      this.turn = held[2] + x * .01; this.tilt = Math.min(Math.max(held[3] + y * .01, -.2), 1.5); this.draw();
    });
    canvas.addEventListener("pointerup", event => { if (held && !held[4]) this.app.select(nearest(this.spots, event.offsetX, event.offsetY, 18)); held = null; });
    canvas.addEventListener("pointerleave", () => this.app.hover(null));
    canvas.addEventListener("keydown", event => {
      const step = { ArrowLeft: [-.1, 0], ArrowRight: [.1, 0], ArrowUp: [0, .08], ArrowDown: [0, -.08] }[event.key];
      if (event.key === " ") this.spin(!this.spinning);
      else if (step) { this.spin(false); this.turn += step[0]; this.tilt = Math.min(Math.max(this.tilt + step[1], -.2), 1.5); this.draw(); }
      else return;
      event.preventDefault();
    });
  }

  spin(on) {
    this.spinning = on; this.button.textContent = on ? "Stop" : "Turn";
    cancelAnimationFrame(this.frame);
    const move = time => {
      if (document.visibilityState === "visible") { this.turn += Math.min(time - (this.last || time), 50) * .00018; this.draw(); }
      this.last = time;
      this.frame = requestAnimationFrame(move);
    };
    this.last = 0;
    if (on) this.frame = requestAnimationFrame(move);
  }

  state() { return { turn: this.turn, tilt: this.tilt, spinning: this.spinning }; }
  restore(state) { this.turn = state.turn; this.tilt = state.tilt; this.spin(state.spinning); }
  end() { cancelAnimationFrame(this.frame); }

  project(x, y, z) {
    const [s, c] = [Math.sin(this.turn), Math.cos(this.turn)], [u, v] = [Math.sin(this.tilt), Math.cos(this.tilt)];
    const across = x * c - y * s, deep = x * s + y * c, far = 1 / (1 + (deep * v - z * u) * .14);
    return { x: this.centre[0] + across * this.size * far, y: this.centre[1] + (-z * v - deep * u) * -1 * -this.size * far, deep: deep * v - z * u };
  }

  draw() {
    const { app } = this, colours = app.colours, { pen, width, height } = prepare(this.canvas);
    if (!colours || !width) return;
    this.size = Math.min(width / 3.7, height / 3.6); this.centre = [width / 2, height / 2 - 6];
    this.cage(pen, colours);
    this.spots = this.trials.filter(t => this.axes.every((i, k) => this.scales[k].inside(t.v[i])))
      .map(trial => { const at = this.axes.map((i, k) => this.scales[k](trial.v[i])); return { trial, at, ...this.project(...at) }; })
      .sort((a, b) => b.deep - a.deep);
    for (const spot of this.spots) {
      const ok = app.passes(spot.trial);
      if (spot.trial.front) {
        const floor = this.project(spot.at[0], spot.at[1], -1);
        pen.globalAlpha = ok ? .35 : .12; pen.strokeStyle = colours.front; pen.lineWidth = 1;
        pen.beginPath(); pen.moveTo(spot.x, spot.y); pen.lineTo(floor.x, floor.y); pen.stroke();
      }
      pen.globalAlpha = spot.trial.front || spot.trial.baseline ? (ok ? 1 : .3) : ok ? .6 : .25;
      mark(pen, kindOf(spot.trial), spot.x, spot.y, spot.trial.front ? 5.5 : 4, colours);
    }
    pen.globalAlpha = 1;
    const chosen = this.spots.find(spot => spot.trial === app.picked);
    if (chosen) ring(pen, chosen.x, chosen.y, colours);
  }

  cage(pen, colours) {
    const line = (a, b) => { const [p, q] = [this.project(...a), this.project(...b)]; pen.beginPath(); pen.moveTo(p.x, p.y); pen.lineTo(q.x, q.y); pen.stroke(); };
    pen.strokeStyle = colours.grid; pen.lineWidth = 1;
    for (let k = -1; k <= 1; k += .5) { line([k, -1, -1], [k, 1, -1]); line([-1, k, -1], [1, k, -1]); }
    pen.strokeStyle = colours.line;
    const corners = [[-1, -1], [1, -1], [1, 1], [-1, 1]];
    for (const [x, y] of corners) line([x, y, -1], [x, y, 1]);
    corners.forEach((corner, i) => { for (const z of [-1, 1]) line([...corner, z], [...corners[(i + 1) % 4], z]); });
    this.labels(pen, colours, corners);
  }

  labels(pen, colours, corners) {
    const deepOf = (x, y) => this.project(x, y, -1).deep;
    const nearX = deepOf(0, -1) < deepOf(0, 1) ? -1 : 1, nearY = deepOf(-1, 0) < deepOf(1, 0) ? -1 : 1;
    const side = corners.reduce((best, c) => this.project(...c, 0).x < this.project(...best, 0).x ? c : best);
    const spots = [t => [t, nearX * 1.13, -1], t => [nearY * 1.13, t, -1], t => [side[0] * 1.07, side[1] * 1.07, t]];
    pen.fillStyle = colours.soft; pen.textBaseline = "middle";
    spots.forEach((spot, k) => {
      const objective = this.app.objectives[this.axes[k]], [low, high] = endTexts(this.scales[k].ends, objective.unit);
      [[-.82, low], [0, objective.meter], [.82, high]].forEach(([t, text], n) => {
        const p = this.project(...spot(t));
        pen.textAlign = k === 2 ? "right" : "center";
        pen.font = n === 1 ? "600 12px system-ui, sans-serif" : "11px system-ui, sans-serif";
        pen.fillText(text, k === 2 ? Math.max(p.x, pen.measureText(text).width + 2) : p.x, p.y + (k === 2 ? 0 : 8));
      });
    });
  }
}

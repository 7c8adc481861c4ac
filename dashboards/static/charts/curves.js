// Learning curves: a score on the validation split at each epoch at which it was read, one line a trial.
class Curves {
  constructor(app, where) {
    this.app = app;
    [this.metric, this.lines] = Object.entries(app.data.curves)[0] || [null, {}];
    this.trials = app.data.trials.filter(t => (this.lines[t.uid] || []).length);
    document.getElementById("curves-panel").hidden = !this.trials.length;
    this.canvas = element("canvas", { role: "img", "aria-label": `${this.metric} by epoch of ${this.trials.length} trials` });
    where.append(this.canvas, element("p", { class: "hint" }, "Blue: on the front; grey: the others; a cross ends a trial that was stopped early or failed."));
    this.canvas.addEventListener("mousemove", event => app.hover(nearest(this.spots || [], event.offsetX, event.offsetY, 14), event));
    this.canvas.addEventListener("mouseleave", () => app.hover(null));
    this.canvas.addEventListener("click", event => app.select(nearest(this.spots || [], event.offsetX, event.offsetY, 18)));
  }

  draw() {
    if (!this.trials.length) return;
    const { pen, width, height } = prepare(this.canvas), { colours } = this.app, points = this.trials.flatMap(t => this.lines[t.uid]);
    const unit = (this.app.objectives.find(o => o.meter === this.metric) || {}).unit;
    const box = { left: 62, right: width - 14, top: 10, bottom: height - 34 }, [low, high] = extent(points.map(p => p[1]), false);
    const px = scaleOf(0, Math.max(...points.map(p => p[0])), false, box.left, box.right);
    const py = scaleOf(low, unit === "share" ? Math.min(high, 1) : high, false, box.bottom, box.top, 42, unit);
    pen.strokeStyle = colours.grid; pen.fillStyle = colours.soft; pen.textAlign = "right"; pen.textBaseline = "middle";
    for (const tick of py.ticks) { pen.beginPath(); pen.moveTo(box.left, py(tick)); pen.lineTo(box.right, py(tick)); pen.stroke(); pen.fillText(tickText(tick, unit), box.left - 6, py(tick)); }
    pen.textAlign = "center"; pen.textBaseline = "top";
    for (const tick of px.ticks.filter(Number.isInteger)) pen.fillText(tick, px(tick), box.bottom + 5);
    pen.textAlign = "right"; pen.textBaseline = "bottom"; pen.fillText("epochs", box.right, height - 2);
    pen.textAlign = "left"; pen.fillText(this.metric, 4, height - 2);
    this.spots = [];
    for (const front of [false, true]) for (const trial of this.trials) if (Boolean(trial.front) === front) this.line(pen, trial, px, py, colours);
  }

  line(pen, trial, px, py, colours) {
    const points = this.lines[trial.uid], chosen = trial === this.app.picked, [x, y] = [px(points.at(-1)[0]), py(points.at(-1)[1])];
    pen.strokeStyle = chosen ? colours.pick : trial.front ? colours.front : colours.rest;
    pen.globalAlpha = chosen || trial.front ? .9 : .45; pen.lineWidth = chosen ? 2.5 : 1.3;
    pen.beginPath(); points.forEach(([epoch, score], i) => pen[i ? "lineTo" : "moveTo"](px(epoch), py(score))); pen.stroke();
    pen.beginPath();
    if (["stopped early", "failed"].includes(trial.status)) { pen.moveTo(x - 4, y - 4); pen.lineTo(x + 4, y + 4); pen.moveTo(x - 4, y + 4); pen.lineTo(x + 4, y - 4); pen.stroke(); }
    else { pen.arc(x, y, 2.5, 0, 7); pen.fillStyle = pen.strokeStyle; pen.fill(); }
    pen.globalAlpha = 1;
    this.spots.push({ trial, x, y });
  }
}

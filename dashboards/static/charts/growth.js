// How the hypervolume grew, trial by trial.
class Growth {
  constructor(app, where) {
    this.app = app;
    this.canvas = element("canvas", { role: "img", "aria-label": this.words() });
    where.append(this.canvas, element("p", { class: "hint" }, this.words()));
  }

  words() {
    const steps = this.app.data.growth, last = steps.at(-1);
    if (!last || !last[1]) return "There is no hypervolume before the baseline and a first trial are measured.";
    const most = steps.find(([, volume]) => volume >= .95 * last[1]);
    return `Hypervolume ${last[1].toPrecision(4)} after ${last[0]} endings; 95 % of it was reached after ${most[0]}. `
      + "It is the volume between the front and the baseline (ten points below it where more is better), in doublings and steps of ten points.";
  }

  draw() {
    const { pen, width, height } = prepare(this.canvas), colours = this.app.colours, steps = this.app.data.growth;
    if (!steps.length) return;
    const box = { left: 44, right: width - 14, top: 12, bottom: height - 34 };
    const px = scaleOf(0, steps.at(-1)[0], false, box.left, box.right);
    const py = scaleOf(0, Math.max(...steps.map(s => s[1])) * 1.06 || 1, false, box.bottom, box.top, 42);
    pen.strokeStyle = colours.grid; pen.fillStyle = colours.soft; pen.textBaseline = "middle"; pen.textAlign = "right";
    for (const tick of py.ticks) { pen.beginPath(); pen.moveTo(box.left, py(tick)); pen.lineTo(box.right, py(tick)); pen.stroke(); pen.fillText(tick, box.left - 6, py(tick)); }
    pen.textAlign = "center"; pen.textBaseline = "top";
    for (const tick of px.ticks.filter(Number.isInteger)) pen.fillText(tick, px(tick), box.bottom + 5);
    pen.textAlign = "right"; pen.textBaseline = "bottom"; pen.fillText("trials ended", box.right, height - 2);
    pen.textAlign = "left"; pen.fillText("hypervolume", 4, height - 2);
    pen.beginPath(); pen.moveTo(box.left, py(0));
    let before = 0;
    for (const [n, volume] of steps) { pen.lineTo(px(n), py(before)); pen.lineTo(px(n), py(volume)); before = volume; }
    pen.strokeStyle = colours.front; pen.lineWidth = 2; pen.lineJoin = "round"; pen.stroke();
    pen.lineTo(box.right, box.bottom); pen.lineTo(box.left, box.bottom); pen.globalAlpha = .1; pen.fillStyle = colours.front; pen.fill(); pen.globalAlpha = 1;
  }
}

// Who ran where: a row for each lane, a bar for each training; measuring and waiting in rows of their own.
class Timeline {
  constructor(app, where) {
    this.app = app;
    this.trials = app.data.trials.filter(t => app.data.courses[t.uid] && app.data.courses[t.uid][1] !== null);
    const lanes = [...new Set(this.trials.map(t => app.data.courses[t.uid]).filter(c => c[2] !== null).map(c => c[0] || "lane"))].sort();
    this.rows = [...lanes, "measured"];
    this.canvas = element("canvas", { role: "img", "aria-label": this.words(lanes) });
    this.canvas.style.height = 46 + 30 * this.rows.length + "px";
    where.append(this.canvas, element("p", { class: "hint" }, `${this.words(lanes)} Blue: on the front; grey: complete; red: failed; hollow: stopped early. A bar begins with the trial's first message.`));
    this.canvas.addEventListener("mousemove", event => app.hover(this.at(event), event));
    this.canvas.addEventListener("mouseleave", () => app.hover(null));
    this.canvas.addEventListener("click", event => app.select(this.at(event)));
  }

  words(lanes) {
    const sum = pick => this.trials.reduce((total, t) => total + Math.max(pick(this.app.data.courses[t.uid]) || 0, 0), 0);
    const training = sum(c => c[2] === null ? 0 : (c[3] ?? c[4]) - c[2]), measuring = sum(c => c[3] === null ? 0 : c[4] - c[3]), waiting = sum(c => c[2] === null ? 0 : c[2] - c[1]);
    return `${lanes.length} lane${lanes.length === 1 ? "" : "s"}; trials trained for ${duration(training)}, were measured for ${duration(measuring)} and waited ${duration(waiting)} for a lane or their first epoch, all together.`;
  }

  at(event) {
    const bar = (this.bars || []).find(b => event.offsetX >= b.x - 2 && event.offsetX <= b.x + b.w + 2 && event.offsetY >= b.y && event.offsetY <= b.y + 18);
    return bar ? bar.trial : null;
  }

  draw() {
    const { pen, width, height } = prepare(this.canvas), { colours } = this.app;
    const left = Math.min(Math.max(...this.rows.map(row => pen.measureText(row).width)) + 14, width * .35), end = Math.max(1, ...this.trials.map(t => this.app.data.courses[t.uid][4]));
    const px = scaleOf(0, end, false, left, width - 30, 90);
    pen.fillStyle = colours.soft; pen.strokeStyle = colours.grid; pen.textBaseline = "middle"; pen.textAlign = "left";
    this.rows.forEach((row, i) => { pen.fillText(row, 4, 14 + 30 * i, left - 10); pen.beginPath(); pen.moveTo(left, 28 + 30 * i); pen.lineTo(width - 30, 28 + 30 * i); pen.stroke(); });
    pen.textAlign = "center"; pen.textBaseline = "bottom";
    for (const tick of px.ticks) pen.fillText(tick ? duration(tick) : "0", px(tick), height - 2);
    this.bars = [];
    for (const trial of this.trials) {
      const [where, , trained, measured, finished] = this.app.data.courses[trial.uid];
      if (trained !== null) this.bar(pen, trial, this.rows.indexOf(where || "lane"), px(trained), px(measured ?? finished), colours);
      if (measured !== null) this.bar(pen, trial, this.rows.length - 1, px(measured), px(finished), colours);
    }
  }

  bar(pen, trial, row, from, to, colours) {
    const [x, y, w] = [from, 5 + 30 * row, Math.max(to - from, 1.5)], hollow = trial.status === "stopped early";
    pen.fillStyle = pen.strokeStyle = trial === this.app.picked ? colours.pick : trial.front ? colours.front : trial.status === "failed" ? colours.bad : trial.baseline ? colours.base : colours.rest;
    pen.lineWidth = 1; pen.globalAlpha = trial.front || trial === this.app.picked ? .9 : .6;
    if (hollow) pen.strokeRect(x + .5, y + .5, Math.max(w - 1, 1), 17); else pen.fillRect(x, y, w - .6, 18);
    pen.globalAlpha = 1;
    this.bars.push({ trial, x, y, w });
  }
}

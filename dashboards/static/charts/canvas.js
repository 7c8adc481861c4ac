// Shared by all charts: sharp canvases in the page's colours, axes with round ticks, and marks that differ in shape.
function palette() {
  const style = getComputedStyle(document.documentElement);
  const probe = document.body.appendChild(element("i"));
  const colour = name => { probe.style.color = style.getPropertyValue(name); return getComputedStyle(probe).color; };
  const found = Object.fromEntries(["panel", "ink", "soft", "line", "grid", "front", "rest", "pick", "base", "bad"].map(name => [name, colour("--" + name)]));
  probe.remove();
  return found;
}

function prepare(canvas) {
  const ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.font = "12px system-ui, sans-serif";
  return { pen, width, height };
}

function scaleOf(low, high, log, from, to, room = 70, unit = "") {
  const f = log ? Math.log : x => x;
  const a = f(low), b = f(high) === f(low) ? f(low) + 1 : f(high);
  const place = value => from + (f(value) - a) / (b - a) * (to - from);
  place.inside = value => value >= low && value <= high;
  place.ticks = log ? logTicks(low, high) : linearTicks(low, high, Math.max(2, Math.round(Math.abs(to - from) / room)));
  if (unit === "share") place.ticks = place.ticks.filter(tick => tick >= 0 && tick <= 1);  // the chart's margin may extend beyond 0..1
  return place;
}

function linearTicks(low, high, count) {
  const raw = (high - low) / count, size = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].find(m => m * size >= raw) * size, ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) ticks.push(+(i * step).toPrecision(10));
  return ticks;
}

function logTicks(low, high) {
  for (const steps of [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 6, 8]]) {
    const ticks = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
      ticks.push(...steps.map(step => +(step * 10 ** power).toPrecision(6)).filter(tick => tick >= low && tick <= high));
    }
    if (ticks.length >= 4) return ticks;
  }
  return linearTicks(low, high, 4);
}

function tickText(value, unit) {
  if (unit === "share") return +(value * 100).toFixed(2) + " %";
  return unit === "ratio" ? +value.toPrecision(3) + "x" : quantity(value, unit);
}

// The labels of an axis's two ends, with enough digits to distinguish them.
function endTexts(ends, unit) {
  const texts = digits => ends.map(end => tickText(+end.toPrecision(digits), unit));
  const enough = [2, 3, 4].find(digits => new Set(texts(digits)).size === 2);
  return texts(enough || 4);
}

function extent(values, log) {
  let low = Math.min(...values), high = Math.max(...values);
  if (low === high) [low, high] = low === 0 ? [-1, 1] : log ? [low / 1.5, high * 1.5] : [low - Math.abs(low) * .1, high + Math.abs(high) * .1];
  const pad = log ? (high / low) ** .07 : (high - low) * .07;
  return log ? [low / pad, high * pad] : [low - pad, high + pad];
}

function mark(pen, kind, x, y, size, colours) {
  pen.beginPath();
  if (kind === "rest") { pen.arc(x, y, size * .62, 0, 7); pen.strokeStyle = colours.rest; pen.lineWidth = 1.1; pen.stroke(); return; }
  if (kind === "undecided") { pen.moveTo(x, y - size); pen.lineTo(x + size, y); pen.lineTo(x, y + size); pen.lineTo(x - size, y); pen.closePath(); pen.fillStyle = colours.panel; pen.fill(); pen.strokeStyle = colours.front; pen.lineWidth = 1.5; pen.stroke(); return; }
  if (kind === "front") { pen.moveTo(x, y - size); pen.lineTo(x + size, y); pen.lineTo(x, y + size); pen.lineTo(x - size, y); pen.closePath(); pen.fillStyle = colours.front; }
  if (kind === "base") { pen.rect(x - size * .8, y - size * .8, size * 1.6, size * 1.6); pen.fillStyle = colours.base; }
  pen.fill();
  pen.strokeStyle = colours.panel; pen.lineWidth = 1; pen.stroke();
}

function ring(pen, x, y, colours) {
  pen.beginPath(); pen.arc(x, y, 10, 0, 7); pen.strokeStyle = colours.pick; pen.lineWidth = 2.5; pen.stroke();
}

function kindOf(trial) { return trial.front ? "front" : trial.baseline ? "base" : trial.undecided ? "undecided" : "rest"; }

function nearest(spots, x, y, reach) {
  let best = null, least = reach * reach;
  for (const spot of spots) {
    const away = (spot.x - x) ** 2 + (spot.y - y) ** 2 - (spot.trial.front ? 16 : 0);
    if (away < least) { least = away; best = spot.trial; }
  }
  return best;
}

function isLog(objective, values) {
  return objective.goal === "min" && objective.unit !== "share" && Math.min(...values) > 0 && Math.max(...values) / Math.min(...values) > 8;
}

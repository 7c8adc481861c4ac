// Formats values with units as the command line does.
const SCALES = { B: [[1e6, "MB"], [1e3, "kB"], [1, "B"]], s: [[1, "s"], [1e-3, "ms"], [1e-6, "µs"]], J: [[1, "J"], [1e-3, "mJ"], [1e-6, "µJ"]] };

function quantity(value, unit) {
  if (value === null || value === undefined) return "not measured";
  if (unit === "share") return (value * 100).toFixed(2) + " %";
  if (unit === "ratio") return value.toFixed(3) + "x";
  if (!SCALES[unit]) return (Math.abs(value) >= 1e4 ? value.toExponential(2) : String(+value.toPrecision(4))) + (unit ? " " + unit : "");
  const scale = SCALES[unit].find(([factor]) => Math.abs(value) >= factor) || SCALES[unit].at(-1);
  return (scale[0] === 1 && unit === "B" ? value.toFixed(0) : String(+(value / scale[0]).toPrecision(3))) + " " + scale[1];
}

function interval(low, high, unit) {
  return low === null || high === null || low === undefined ? "" : `${quantity(low, unit)} – ${quantity(high, unit)}`;
}

// The small text below a value: its interval, the absolute time of a latency ratio, and a mark if other load disturbed it.
function beside(trial, i, unit) {
  const seconds = trial.seconds && trial.seconds[i];
  return [interval(trial.l[i], trial.h[i], unit), seconds ? quantity(seconds, "s") : "", trial.contended && trial.contended[i] ? "disturbed" : ""].filter(Boolean).join(" · ");
}

// A limit as an argument: rounded away from `value` so that the point itself stays within it.
function argument(value, unit, sign, digits) {
  const [factor, name] = unit === "share" ? [0.01, "%"] : unit === "ratio" ? [1, "x"]
    : SCALES[unit] ? SCALES[unit].find(([size]) => Math.abs(value) >= size) || SCALES[unit].at(-1) : [1, ""];
  const scaled = value / factor;
  const step = 10 ** (Math.floor(Math.log10(Math.abs(scaled) || 1)) + 1 - digits);
  const outward = (sign < 0 ? Math.ceil(scaled / step - 1e-7) : Math.floor(scaled / step + 1e-7)) * step;
  return String(+outward.toPrecision(Math.max(digits, 3) + 3)) + name.replace("µ", "u");
}

function gain(value, objective) {
  const base = objective.baseline;
  if (value === null || base === null || base === undefined) return "";
  if (objective.unit === "share" || objective.goal === "max") {
    const points = (value - base) * (objective.unit === "share" ? 100 : 1);
    if (!points) return "the same";
    return `${points >= 0 ? "+" : "−"}${Math.abs(points).toFixed(2)}${objective.unit === "share" ? " points" : ""}`;
  }
  const ratio = base / value;
  if (ratio.toPrecision(3) === "1.00") return "the same";
  const [less, more] = { B: ["smaller", "larger"], J: ["less", "more"], ratio: ["faster", "slower"], s: ["faster", "slower"] }[objective.unit]
    || ["lower", "higher"];
  return ratio >= 1 ? `${ratio.toPrecision(3)}× ${less}` : `${(1 / ratio).toPrecision(3)}× ${more}`;
}

function duration(seconds) {
  if (seconds < 90) return seconds.toFixed(seconds < 10 ? 1 : 0) + " s";
  return seconds < 5400 ? (seconds / 60).toFixed(1) + " min" : (seconds / 3600).toFixed(1) + " h";
}

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter(child => child !== null && child !== undefined));
  return made;
}

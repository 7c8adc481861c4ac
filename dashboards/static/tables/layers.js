// What a trial did to each layer, beside the baseline: bytes as bars, shape and bits before and after.
function fillLayers(app, trial) {
  const where = document.getElementById("layers"), panel = document.getElementById("layers-panel");
  const layers = trial && app.data.layers[trial.uid];
  panel.hidden = !layers;
  if (!layers) return;
  const baseline = app.data.trials.find(t => t.baseline), before = (baseline && app.data.layers[baseline.uid]) || {};
  const count = of => of.shape.reduce((product, size) => product * size, 1), bytes = of => count(of) * (of.stored || of.bits || 32) / 8;
  const names = [...new Set([...Object.keys(before), ...Object.keys(layers)])];
  const most = Math.max(...names.map(name => Math.max(before[name] ? bytes(before[name]) : 0, layers[name] ? bytes(layers[name]) : 0)));
  document.getElementById("layers-title").textContent = `The layers of ${trial.baseline ? "the baseline" : trial.uid}`;
  where.replaceChildren(element("thead", {}, element("tr", {}, ...["layer", "bytes of its weights", "shape", "bits", "zeros", "runs as"].map(name => element("th", { scope: "col" }, name)))),
    element("tbody", {}, ...names.map(name => layerRow(name, before[name], layers[name], bytes, most))));
  for (const bar of where.querySelectorAll("i[data-share]")) bar.style.width = Math.max(bar.dataset.share * 100, .5) + "%";
}

function layerRow(name, before, after, bytes, most) {
  const from = (old, now) => old === undefined || old === now ? now : `${old} → ${now}`, size = of => of ? quantity(Math.round(bytes(of)), "B") : "none";
  const short = number => String(+(number * 100).toPrecision(3));
  const bar = (of, kind) => of ? element("i", { class: kind, "data-share": bytes(of) / most }) : null;
  const bits = of => of ? String(+of.bits.toPrecision(3)) : "none";
  return element("tr", {}, element("th", { scope: "row" }, name),
    element("td", { class: "sizes" }, bar(before, "before"), bar(after, "after"), element("small", {}, from(before && size(before), size(after)))),
    element("td", {}, from(before && before.shape.join("×"), after ? after.shape.join("×") : "removed")),
    element("td", {}, from(before && bits(before), bits(after))),
    element("td", {}, after ? `${short(after.sparsity)} %` : "–"),
    element("td", {}, after ? [after.kernel || "", after.in_floats || ""].filter(Boolean).join(": ") || "–" : "–"));
}

// What became of a layer of a point, in lines: what was asked of it and what it got, its shape, what runs it, and why not in integers.
function layerLines(of) {
  const short = number => typeof number === "number" ? String(+number.toPrecision(4)) : "–";
  const asked = `bits asked ${short(of.asked)}${of.group ? ` in groups of ${of.group}` : ""}, got ${short(of.bits)}, in the file ${short(of.stored)}`;
  const runs = [of.kernel, of.in_floats && `in floats: ${of.in_floats}`].filter(Boolean).join(", ");
  const lines = [typeof of.asked === "number" ? asked : `${short(of.bits)} bits`, `${of.shape.join("×")}, ${short(of.sparsity * 100)} % zeros`, runs];
  return lines.filter(Boolean).map(line => element("div", {}, line));
}

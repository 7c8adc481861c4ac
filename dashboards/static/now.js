// What a running sweep is doing now; shown only on the live page, which a server feeds.
function fillNow(app) {
  const { now } = app.data, panel = document.getElementById("now-panel");
  panel.hidden = !now || app.data.status !== "running";
  if (panel.hidden) return;
  const left = now.left_s === null ? "no estimate before the first trial ends" : `about ${duration(now.left_s)} left`;
  const silent = now.silent_s > 30 ? `, no event for ${duration(now.silent_s)}` : "";
  document.getElementById("now-words").textContent = `${now.ended} of ${now.asked} trials ended, ${left}${silent}.`;
  const bar = document.getElementById("now-bar");
  bar.max = now.asked || 1; bar.value = now.ended;
  bar.textContent = `${now.ended} of ${now.asked}`;
  const cells = t => [t.uid, t.where || "–", t.doing, t.words || "–", duration(Math.max(app.data.updated + now.silent_s - t.started, 0))];
  const head = ["trial", "where", "what it does", "plan", "for"];
  document.getElementById("now").replaceChildren(
    element("thead", {}, element("tr", {}, ...head.map(name => element("th", { scope: "col" }, name)))),
    element("tbody", {}, ...now.doing.map(t => element("tr", { class: t.waits ? "waits" : null }, ...cells(t).map(text => element("td", {}, text))))));
}

function fillLinks(app) {
  const links = Object.entries(app.data.links || {}), where = document.getElementById("links");
  where.replaceChildren(...links.map(([name, url]) => element("a", { href: url }, name)));
  const standing = app.data.now && app.data.now.standing;
  if (standing) where.append(element("span", {}, standing));
}

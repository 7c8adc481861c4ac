// Polls the server every two seconds; data that did not change are neither sent nor drawn again.
function pollData(app) {
  const poll = async () => {
    try {
      const answer = await fetch(`data.json?version=${app.data.version}`), data = await answer.json();
      document.body.classList.remove("stale");
      if (data.trials) app.renew({ ...data, links: app.data.links });
      else { app.data.now = data.now; fillNow(app); fillLinks(app); }
    } catch { document.body.classList.add("stale"); }
    setTimeout(poll, 2000);
  };
  setTimeout(poll, 2000);
}

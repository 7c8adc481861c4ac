// Ask for news every other second; what did not change is not sent again and not drawn again.
function followNews(app) {
  const ask = async () => {
    try {
      const answer = await fetch(`data.json?version=${app.data.version}`), news = await answer.json();
      document.body.classList.remove("stale");
      if (news.trials) app.renew({ ...news, links: app.data.links });
      else { app.data.now = news.now; fillNow(app); fillLinks(app); }
    } catch { document.body.classList.add("stale"); }
    setTimeout(ask, 2000);
  };
  setTimeout(ask, 2000);
}

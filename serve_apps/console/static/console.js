// Theme, ages, and whether the server answers. Everything else is HTML from the server, exchanged by htmx.
(() => {
  const root = document.documentElement;
  const stored = localStorage.getItem("theme");
  if (stored) root.dataset.theme = stored;

  const age = (instant) => {
    const seconds = Math.max(0, Math.floor((Date.now() - instant) / 1000));
    if (seconds < 60) return `${seconds}s`;
    if (seconds < 3600) return `${Math.floor(seconds / 60)}m`;
    if (seconds < 86400) return `${Math.floor(seconds / 3600)}h`;
    return `${Math.floor(seconds / 86400)}d`;
  };

  const draw = () => {
    for (const element of document.querySelectorAll("time[datetime]")) {
      const instant = new Date(element.dateTime);
      element.title = instant.toLocaleString();
      const ahead = Math.ceil((instant - Date.now()) / 1000);
      element.textContent = ahead > 0
        ? (ahead < 60 ? `in ${ahead}s` : instant.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }))
        : element.closest(".age") ? age(instant) : `${age(instant)} ago`;
    }
  };

  addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme").addEventListener("click", () => {
      const dark = root.dataset.theme
        ? root.dataset.theme === "dark"
        : matchMedia("(prefers-color-scheme: dark)").matches;
      root.dataset.theme = dark ? "light" : "dark";
      localStorage.setItem("theme", root.dataset.theme);
    });
    const offline = document.getElementById("offline");
    document.body.addEventListener("htmx:afterRequest", (event) => { offline.hidden = event.detail.successful; });
    document.body.addEventListener("htmx:responseError", (event) => {
      if (event.detail.xhr.status === 401) location.reload();
    });
    document.body.addEventListener("htmx:oobAfterSwap", draw);
    draw();
    setInterval(draw, 1000);
  });
})();

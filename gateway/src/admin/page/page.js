// Keeps an open page up to date with what /live tells once a second. Without it the page shows how
// things were when it was loaded.
"use strict";
(() => {
  const mark = document.getElementById("live");
  let events = null;
  let again = 0;

  const say = (state, text) => {
    if (mark.dataset.live !== state) {
      mark.dataset.live = state;
      mark.textContent = text;
    }
  };

  // What is sent was escaped where it was made.
  const element = (html) => {
    const holder = document.createElement("template");
    holder.innerHTML = html;
    return holder.content.firstElementChild;
  };

  // Cells that are the same stay, so that nobody loses focus or selection.
  const renew = (old, fresh) => {
    if (old.tagName !== "TR") {
      if (!old.isEqualNode(fresh)) old.replaceWith(fresh);
      return;
    }
    for (const { name, value } of [...fresh.attributes]) old.setAttribute(name, value);
    [...fresh.children].forEach((cell, at) => {
      const before = old.children[at];
      if (before && !before.isEqualNode(cell) && !before.contains(document.activeElement)) {
        before.replaceWith(cell);
      }
    });
    for (const button of old.querySelectorAll("button[value]")) {
      button.setAttribute("aria-pressed", String(button.value === old.dataset.admin));
    }
  };

  const grow = (row) => {
    const table = document.querySelector("table[data-grows]");
    if (!table) return;
    const body = table.tBodies[0];
    body.prepend(row);
    while (body.rows.length > Number(table.dataset.grows)) body.lastElementChild.remove();
    for (const empty of document.querySelectorAll("p.empty")) empty.remove();
  };

  const end = (id) => {
    const row = document.getElementById(id);
    if (!row || row.dataset.kind === "ended") return;
    row.dataset.kind = "ended";
    const state = row.querySelector("[data-name=State]");
    if (state) state.textContent = "\u25a0 ended";
  };

  const tell = (message) => {
    const { parts, ended } = JSON.parse(message.data);
    for (const [id, html] of Object.entries(parts)) {
      const fresh = element(html);
      const old = document.getElementById(id);
      if (old) renew(old, fresh);
      else if (id.startsWith("u-")) grow(fresh);
      else if (id.startsWith("b-") && document.getElementById("farm")) location.reload();
    }
    ended.forEach(end);
    say("yes", "live");
  };

  const begin = () => {
    clearTimeout(again);
    if (events || document.hidden) return;
    events = new EventSource("/live");
    events.onmessage = tell;
    events.onerror = () => {
      say("no", "not live");
      if (events.readyState === EventSource.CLOSED) {
        events = null;
        again = setTimeout(begin, 5000);
      }
    };
  };

  const rest = () => {
    clearTimeout(again);
    if (events) events.close();
    events = null;
    say("no", "not live");
  };

  // A hidden page gives its place to another.
  document.addEventListener("visibilitychange", () => (document.hidden ? rest() : begin()));
  window.addEventListener("pagehide", rest);
  window.addEventListener("pageshow", begin);
  begin();
})();

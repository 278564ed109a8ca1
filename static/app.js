// Keyturn's own script: the live countdown, times in the reader's time zone, and what a click on Refresh Token needs
// beside the swap. Without it everything works by reloading.
"use strict";
(() => {
  const words = { fresh: ["●", "Fresh"], due: ["◐", "Due"], expired: ["○", "Expired"], needs_sign_in: ["⚑", "Needs sign-in"] };
  const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
  const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
  const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
  let skew = 0; // of the reader's clock against the server's, in milliseconds
  let shownCard = null;
  let focusWas = false;

  const byId = (id) => document.getElementById(id);
  const at = (element, name) => Date.parse(element.dataset[name] || "");

  function localTimes(root) {
    for (const time of root.querySelectorAll("time[data-shown]")) {
      const moment = new Date(time.dateTime);
      const today = moment.toDateString() === new Date().toDateString();
      const prefix = time.dataset.shown === "time" && today ? "" : (today ? "today" : day.format(moment)) + " ";
      time.textContent = prefix + clock.format(moment);
      time.title = exact.format(moment) + " (" + time.dateTime + ")";
    }
  }

  function left(milliseconds) {
    const s = Math.max(0, Math.floor(milliseconds / 1000));
    const two = (n) => String(n).padStart(2, "0");
    return s >= 3600 ? `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}` : `${Math.floor(s / 60)}:${two(s % 60)}`;
  }

  function show(card, state) {
    if (card.dataset.state === state) return;
    card.classList.replace("state-" + card.dataset.state, "state-" + state);
    card.dataset.state = state;
    card.querySelector(".badge .shape").textContent = words[state][0];
    card.querySelector(".badge .word").textContent = words[state][1];
  }

  function tick() {
    const card = byId("token-card");
    if (!card) return;
    const now = Date.now() + skew;
    const expires = at(card, "expiresAt"), issued = at(card, "issuedAt"), due = at(card, "dueAt");
    byId("countdown").textContent = left(expires - now);
    const gone = expires > issued ? 1 - (expires - now) / (expires - issued) : 1;
    card.querySelector(".ring .left").setAttribute("stroke-dashoffset", (100 * Math.min(1, Math.max(0, gone))).toFixed(2));
    const renewable = "renewable" in card.dataset;
    if (now >= expires) show(card, renewable ? "expired" : "needs_sign_in");
    else if (renewable && now >= due && card.dataset.state === "fresh") show(card, "due");
    const rest = (expires - now) % 1000;
    setTimeout(tick, (rest > 0 ? rest : 1000 + rest) + 5);
  }

  function begin(root) {
    const card = byId("token-card");
    if (card && card !== shownCard) {
      shownCard = card;
      skew = at(card, "now") - Date.now();
    }
    localTimes(root);
  }

  function busy(form, on) {
    const button = form.querySelector("button");
    if (!button) return;
    button.setAttribute("aria-busy", String(on));
    button.setAttribute("aria-disabled", String(on));
    button.querySelector(".label").textContent = on ? "Refreshing…" : "Refresh Token";
  }

  function say(text, good) {
    const result = byId("result");
    if (result) {
      result.textContent = text;
      result.className = "result " + (good ? "good" : "bad");
    }
    byId("announce").textContent = text;
  }

  document.addEventListener("submit", (event) => {
    const button = event.target.querySelector('button[aria-busy="true"]');
    if (button) { event.preventDefault(); event.stopImmediatePropagation(); }
  }, true);

  document.addEventListener("htmx:before:request", (event) => {
    const form = event.target.closest ? event.target.closest("form") : null;
    if (!form || !form.closest("#token-card")) return;
    focusWas = form.contains(document.activeElement);
    byId("notice").replaceChildren();
    busy(form, true);
  });

  document.addEventListener("htmx:finally:request", () => {
    const form = document.querySelector("#token-card form");
    if (form) busy(form, false);
  });

  document.addEventListener("htmx:after:swap", () => {
    begin(document);
    const result = byId("result");
    byId("announce").textContent = result ? result.textContent.trim() : "";
    const next = byId("refresh-token") || byId("sign-in-again");
    if (focusWas && next) next.focus({ preventScroll: true });
    focusWas = false;
  });

  document.addEventListener("htmx:error", () => say("Keyturn cannot be reached. Your token is as it was; try again in a moment.", false));

  document.addEventListener("visibilitychange", () => { if (!document.hidden) localTimes(document); });

  begin(document);
  tick();
})();

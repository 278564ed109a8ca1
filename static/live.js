// The stream of the dashboard: renewals that were made elsewhere, and the end of the session.
"use strict";
(() => {
  const silence = 40000; // ms without a heartbeat, every 15 s, after which a stream is dead
  let connection = null; // the open stream
  let heardAt = 0; // when it last said something
  let reconnecting = 0; // the timer that says so
  let told = ""; // the newest version that it told of
  let over = false; // the session has ended
  let leavingUntil = 0; // the page is on its way elsewhere; later than that it has stayed

  if (window.htmx) htmx.config.sse = { reconnectDelay: 300, reconnectMaxDelay: 5000 };

  const byId = (id) => document.getElementById(id);

  function show(state, word) {
    const shown = byId("live-state");
    if (!shown) return;
    shown.hidden = false;
    shown.dataset.state = state;
    shown.querySelector(".word").textContent = word;
  }

  // A page that nobody sees yet leaves the few connections that a browser has for a site to those that somebody does.
  document.addEventListener("htmx:before:request", (event) => { if (event.target.id === "live" && document.hidden) event.preventDefault(); });
  document.addEventListener("visibilitychange", open);
  document.addEventListener("htmx:error", (event) => { if (event.target.id === "live") setTimeout(open, 3000); });
  function open() { byId("live")?.dispatchEvent(new Event("stream")); }

  document.addEventListener("htmx:sse:before:connection", (event) => {
    if (document.hidden || over) return event.preventDefault();
    goOn(event.detail.connection);
    clearTimeout(reconnecting);
    if (event.detail.connection.attempt > 0) reconnecting = setTimeout(() => show("off", "Reconnecting…"), 1000); // not for a glance at another tab
  });
  document.addEventListener("htmx:sse:after:connection", (event) => {
    connection = event.detail.connection;
    heardAt = Date.now();
    if (document.hidden) return connection.abortController.abort(); // left while it was on the way: htmx closes only those that are open
    clearTimeout(reconnecting);
    show("on", "Live");
  });
  document.addEventListener("htmx:sse:close", () => { connection = null; });
  document.addEventListener("htmx:sse:error", (event) => {
    if (event.detail.status === 401) ended();
    if (!document.hidden) show("off", "Reconnecting…");
  });
  setInterval(() => {
    if (!connection || Date.now() < heardAt + silence) return;
    heardAt = Date.now();
    connection.reader?.cancel(); // and it is opened again
  }, 1000);

  // A message is newer than the card, or it is not taken.
  const newer = (a, b) => {
    const partsB = b.split(".").map(Number), parts = a.split(".").map(Number);
    const first = parts.findIndex((part, i) => part !== partsB[i]); // generation, time, whether it is judged
    return first >= 0 && parts[first] > partsB[first];
  };
  document.addEventListener("htmx:sse:before:message", (event) => {
    heardAt = Date.now();
    const { message } = event.detail, card = byId("token-card");
    if (message.event) return;
    if (newer(message.id, told)) told = message.id;
    const clicked = byId("refresh-token")?.getAttribute("aria-busy") === "true"; // its answer says more
    if (clicked || !card || !newer(message.id, card.dataset.version)) event.detail.cancelled = true;
  });

  // Unless its answer is lost, or so late that more was told meanwhile: then all that the card lacks is told again.
  document.addEventListener("htmx:finally:request", () => {
    const card = byId("token-card");
    if (!card || !newer(told, card.dataset.version)) return;
    openAgain();
  });
  // A stream says nothing of a network that is gone, and may stay silent when it is back: it is opened again, so that the page knows.
  document.addEventListener("lost", openAgain);
  for (const network of ["offline", "online"]) window.addEventListener(network, openAgain);
  function openAgain() {
    if (!connection) return;
    goOn(connection);
    connection.reader?.cancel();
  }
  function goOn(connection) { connection.lastEventId = byId("token-card")?.dataset.version ?? ""; }

  // What the page swaps in by itself moves nothing that one is about to click: what is under the pointer stays where it is; on a page
  // that was scrolled and has no pointer, what one reads: the last that begins in the upper third of the view, at the page's end in view.
  let held = [], touched = false;
  for (const moved of ["pointerdown", "pointermove"]) addEventListener(moved, (event) => { touched = event.pointerType === "touch"; });
  const top = (element) => element.getBoundingClientRect().top;
  document.addEventListener("htmx:before:swap", (event) => {
    held = [];
    if (event.detail.ctx.sourceElement?.matches("form, a, #generations-table:has(.skeleton)")) return;
    held = touched ? [] : [...document.querySelectorAll("main [id]:hover")]; // what was tapped stays hovered
    if (held.at(-1)?.matches("#history-recent, :has(#history-recent)")) held = []; // it grows below its top
    const line = innerHeight / (document.body.getBoundingClientRect().bottom > innerHeight + 50 ? 3 : 1);
    if (!held.length && scrollY > 0) held = [...document.querySelectorAll("main .card, #history tr[id]")].filter((e) => top(e) < line).slice(-1);
    held = held.map((element) => ({ id: element.id, top: top(element) }));
    setTimeout(() => { held = []; }, 500); // should nothing come of it
  });

  // Before it is painted, and only then: whoever scrolls meanwhile is not to be scrolled back.
  new MutationObserver(() => {
    const last = held.findLast(({ id }) => byId(id));
    held = [];
    if (last) scrollBy({ top: top(byId(last.id)) - last.top, behavior: "instant" });
  }).observe(document.body, { childList: true, subtree: true });

  // A renewal that came while the inspector was on its way has not been asked for. The replica that answers may lag.
  let late = ["", 0];
  document.addEventListener("htmx:after:swap", ({ detail }) => {
    if (detail.ctx.target?.id !== "inspector-body") return;
    const now = byId("token-card")?.dataset.generation, shown = document.querySelector("#inspector-body .panel")?.dataset.generation;
    if (!(Number(shown) < Number(now))) return;
    late = [now, late[0] === now ? late[1] + 1 : 0];
    if (late[1] < 5) setTimeout(() => document.body.dispatchEvent(new Event("renewed")), 300 * late[1]);
  });

  // Who signs out here, or in again, is on the way to where that leads: to go elsewhere now would break it off.
  document.addEventListener("signedout", () => {
    over = true;
    ended();
  });
  function ended() {
    const rest = leavingUntil - Date.now();
    if (rest > 0) setTimeout(ended, rest);
    else location.assign("/?return_to=/dashboard&ended=1");
  }
  window.addEventListener("beforeunload", () => { leavingUntil = Date.now() + 30000; });
  document.addEventListener("htmx:before:response", (event) => {
    if (Date.now() < leavingUntil && event.detail.ctx.response.raw.status === 401) event.preventDefault();
  });
  // Some browsers keep a page that is not to be stored, and show it again to whoever goes back: the person may have signed out since.
  window.addEventListener("pageshow", (event) => {
    if (!event.persisted || !document.querySelector(".who")) return;
    document.body.style.visibility = "hidden";
    location.reload();
  });
  // Unless the browser has refused to go there.
  document.addEventListener("securitypolicyviolation", (event) => { if (event.effectiveDirective === "form-action") leavingUntil = 0; });
})();

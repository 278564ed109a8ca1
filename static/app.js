// Keyturn's own script: the live countdown, times in the reader's time zone, and what htmx does not know of the page. Without
// it everything works by reloading.
"use strict";
(() => {
  const words = { fresh: ["●", "Fresh"], due: ["◐", "Due"], expired: ["○", "Expired"], needs_sign_in: ["⚑", "Needs sign-in"] };
  const locale = navigator.language.startsWith("en") ? navigator.language : "en-GB"; // the page is in English
  const clock = new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
  const day = new Intl.DateTimeFormat(locale, { day: "numeric", month: "short" });
  const year = new Intl.DateTimeFormat(locale, { day: "numeric", month: "short", year: "numeric" });
  const exact = new Intl.DateTimeFormat(locale, { dateStyle: "full", timeStyle: "long", hourCycle: "h23" });
  const mask = "••••••••••••••••••••••••";
  let skew = 0; // of the reader's clock against the server's, in milliseconds
  let shownCard = null;
  let click = null; // the request of a click on Refresh Token that is on its way
  let waiting = 0; // the timer that says that its answer is late
  let announced = 0; // the timer that takes an announcement back
  let today = new Date().toDateString();
  let askedAt = 0; // when the page last asked by itself
  let touchedAt = Date.now(); // when somebody last did something here
  let focused = ""; // id of what had the focus before a swap
  let around = ""; // id of the card that it is in
  let olderRows = 0; // of the history, before a swap
  let beside = []; // ids of the buttons of sessions that follow it, nearest first, and then of those before it
  let moreOpen = false; // all sessions are shown, not the first few only
  let reveal = null; // a reveal that was asked for: what a renewal swaps in meanwhile must not lose it
  let reloading = false; // the inspector is on its way again, after a renewal

  const byId = (id) => document.getElementById(id);
  const at = (element, name) => Date.parse(element.dataset[name] || "");
  const now = () => Date.now() + skew;
  const moment = () => document.dispatchEvent(new CustomEvent("moment", { detail: now() })); // for the timeline

  function localTimes(root) {
    for (const time of root.querySelectorAll("time")) {
      const moment = new Date(time.dateTime);
      time.title = exact.format(moment) + " (" + time.dateTime + ")";
      if (!time.dataset.shown) continue; // it is a wait
      const today = moment.toDateString() === new Date().toDateString();
      const far = Math.abs(moment - Date.now()) > 300 * 864e5;
      const prefix = time.dataset.shown === "time" && today ? "" : (today ? "today" : (far ? year : day).format(moment)) + " ";
      time.textContent = prefix + clock.format(moment);
    }
  }

  function left(milliseconds) {
    const s = Math.max(0, Math.floor(milliseconds / 1000));
    const two = (n) => String(n).padStart(2, "0");
    return s >= 3600 ? `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}` : `${Math.floor(s / 60)}:${two(s % 60)}`;
  }

  // As the server writes it: "in 3 min 5 s", "2 h ago"
  function relative(milliseconds) {
    const s = Math.floor(Math.abs(milliseconds) / 1000);
    if (s < 1) return "now";
    const units = [["y", 365 * 86400], ["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
    const [[unit, size], next] = units.slice(units.findIndex(([, size]) => s >= size));
    let words = `${Math.floor(s / size)} ${unit}`;
    if (next && Math.floor((s % size) / next[1]) > 0) words += ` ${Math.floor((s % size) / next[1])} ${next[0]}`;
    return milliseconds > 0 ? "in " + words : words + " ago";
  }

  // The token card

  function show(card, state) {
    if (card.dataset.state === state) return;
    card.classList.replace("state-" + card.dataset.state, "state-" + state);
    card.dataset.state = state;
    card.querySelector(".badge .shape").textContent = words[state][0];
    card.querySelector(".badge .word").textContent = words[state][1];
    announceState(state);
  }

  // An end, and that it is over, are told to those who do not see the badge, and a failure to those who do not see what stands beside the
  // button; what comes with each renewal is not.
  let toldOf = "";
  function announceState(state, failure = "") {
    const bad = state === "expired" || state === "needs_sign_in", changed = bad ? toldOf !== state : toldOf;
    if (shownCard && (changed || failure)) announce([changed && `Access token: ${words[state][1]}.`, failure].filter(Boolean).join(" "));
    toldOf = bad ? state : "";
    document.title = (bad ? words[state].join(" ") : "Dashboard") + " · Keyturn";
  }

  // The failure that a card tells of, without the time of the next try.
  const failureOf = (card) => card?.querySelector("#result.bad bdi")?.textContent;

  function tick() {
    const card = byId("token-card");
    if (!card) return;
    const expires = at(card, "expiresAt"), issued = at(card, "issuedAt"), due = at(card, "dueAt");
    byId("countdown").textContent = left(expires - now());
    const gone = expires > issued ? 1 - (expires - now()) / (expires - issued) : 1;
    card.querySelector(".ring .left").setAttribute("stroke-dashoffset", (100 * Math.min(1, Math.max(0, gone))).toFixed(2));
    const renewable = "renewable" in card.dataset;
    if (now() >= expires) {
      show(card, renewable ? "expired" : "needs_sign_in");
      byId("expiry").previousElementSibling.textContent = "Expired";
    } else if (renewable && now() >= due && card.dataset.state === "fresh") show(card, "due");
    const next = byId("renews-next").querySelector("time");
    if (next && now() >= Date.parse(next.dateTime)) next.replaceWith("now");
    moment();
    for (const shown of document.querySelectorAll("[data-relative]")) {
      const away = Date.parse(shown.dataset.relative) - now();
      shown.textContent = relative(shown.localName === "time" ? Math.max(0, away) : away); // what waits is never late
    }
    if (today !== (today = new Date().toDateString())) localTimes(document);
    askAgain(card);
    const rest = (expires - now()) % 1000;
    setTimeout(tick, (rest > 0 ? rest : 1000 + rest) + 5);
  }

  // At the expiry, and at each automatic try after it, the card is asked for by itself: it is renewed if it is due.
  function askAgain(card) {
    const when = at(card, "askAt");
    if (!window.htmx || click || document.hidden || !(now() >= when) || Date.now() < askedAt + 3000) return;
    askedAt = Date.now();
    const since = card.querySelector("input[name=since]");
    htmx.ajax("POST", "/api/trigger-renew-token", { target: "#token-card", swap: "outerHTML", values: { since: since ? since.value : "0" } });
  }

  // What asks for something shows it until the answer is there.
  function busy(element, on) {
    const button = element.matches?.("form") ? element.querySelector("button") : element.matches?.("a") ? element : null;
    if (!button) return;
    button.setAttribute("aria-busy", String(on));
    button.setAttribute("aria-disabled", String(on));
    const label = button.querySelector(".label");
    if (label) label.textContent = on ? "Refreshing…" : "Refresh Token";
  }

  function stillWaiting() {
    const result = click && byId("result");
    if (!result) return;
    result.textContent = "No answer yet: your provider or the network is slow. What came of it will show here.";
    result.className = "result";
    announce(result.textContent);
  }

  function sayProblem(text) {
    const result = byId("result");
    if (result) {
      result.textContent = text;
      result.dataset.said = "yes";
      result.className = "result bad";
    }
    announce(text);
  }

  const textOf = (element) => element.innerText.trim().replace(/\s+/g, " ");

  // What was announced is not to be met later on by who reads on: it may have changed since.
  function announce(text) {
    byId("announce").textContent = text;
    clearTimeout(announced);
    announced = setTimeout(() => { byId("announce").textContent = ""; }, 20000);
  }

  for (const [kind, selector] of [["submit", "button"], ["click", "a"]]) {
    document.addEventListener(kind, (event) => {
      const asked = kind === "submit" ? event.target.querySelector(selector) : event.target.closest?.(selector);
      if (asked?.getAttribute("aria-busy") === "true") { event.preventDefault(); event.stopImmediatePropagation(); }
    }, true);
  }

  // A second click would break off what the first one has begun.
  document.addEventListener("submit", (event) => {
    const button = event.target.getAttribute("action") === "/auth/signout" && event.target.querySelector("button");
    if (!button) return;
    button.setAttribute("aria-busy", "true");
    setTimeout(() => button.removeAttribute("aria-busy"), 10000);
  });

  // What a page asks for by itself is no sign that anybody is there.
  for (const kind of ["pointerdown", "pointermove", "keydown", "wheel", "visibilitychange"]) {
    document.addEventListener(kind, () => { touchedAt = Date.now(); }, { capture: true, passive: true });
  }
  document.addEventListener("htmx:config:request", (event) => {
    const { headers } = Object.assign(event.detail.ctx.request, { cache: "no-store" }); // or Firefox may wait for what a page before left
    if (Date.now() > touchedAt + 5000) headers["Keyturn-Unattended"] = "true";
    Object.assign(headers, shownGrant());
  });

  // Whoever has signed in with another tab since is not shown, and not renewed, under the name that this page has.
  function shownGrant() {
    const grant = byId("main")?.dataset.grant;
    return grant ? { "Keyturn-Grant": grant } : {};
  }

  document.addEventListener("htmx:before:request", (event) => {
    const form = event.target.closest ? event.target.closest("#token-card form") : null;
    if (event.target.id !== "live") byId("notice")?.replaceChildren();
    busy(event.target, true);
    if (!form) return;
    click = event.detail.ctx;
    byId("result").classList.add("past");
    delete byId("result").dataset.said;
    clearTimeout(waiting);
    waiting = setTimeout(stillWaiting, 5000);
  });

  document.addEventListener("htmx:finally:request", (event) => {
    busy(event.target, false);
    if (!click || event.detail.ctx !== click) return;
    click = null;
    clearTimeout(waiting);
    const form = document.querySelector("#token-card form");
    if (form) busy(form, false);
    const result = byId("result");
    if (!result || result.dataset.said) return;
    const stale = result.classList.contains("past"); // the answer is elsewhere
    if (stale) result.textContent = "";
    announce(textOf(stale ? byId("notice") : result));
  });

  document.addEventListener("htmx:error", (event) => {
    const { ctx } = event.detail;
    if (click && ctx === click) sayProblem(lost + " The page goes on by itself when it can; if your token was renewed all the same, that will show then.");
    else if (ctx && event.target.closest?.(".card") && !event.target.closest("#token-card")) notifyUnreached();
    if (ctx) document.dispatchEvent(new Event("lost"));
  });

  const lost = "Keyturn cannot be reached. Your network's matter, or the operator's.";
  const unreached = lost + " The page goes on by itself when it can: try again then.";

  // What said so is over once it can be.
  function reached() {
    for (const said of [byId("result"), byId("notice")]) if (said?.textContent.startsWith(lost)) said.textContent = "";
  }

  document.addEventListener("htmx:sse:after:connection", reached);

  function notifyUnreached() {
    const result = byId("result"), { top, bottom } = result?.getBoundingClientRect() ?? {};
    if (result?.textContent.startsWith(lost) && top > 0 && bottom < innerHeight) announce(unreached); // one sees it there already
    else notify(unreached);
  }

  // What came of what was asked for elsewhere on the page
  function notify(text) {
    const problem = document.createElement("div");
    problem.className = "problem";
    problem.setAttribute("role", "alert");
    problem.textContent = text;
    byId("notice")?.replaceChildren(problem);
  }

  // What is swapped in can be seen, and clicked, a moment before htmx knows it: what would then leave the page goes to htmx.
  for (const [kind, selector] of [["submit", "form[hx-post]"], ["click", "a[hx-get]"]]) {
    document.addEventListener(kind, (event) => {
      const element = event.target.closest ? event.target.closest(selector) : null;
      if (!element || event.defaultPrevented || event.ctrlKey || event.metaKey || event.shiftKey || event.button > 0) return;
      if (!window.htmx || element.hasAttribute("data-htmx-powered")) return;
      event.preventDefault();
      htmx.process(element);
      if (kind === "submit") element.requestSubmit(event.submitter);
      else element.click();
    });
  }

  // What was swapped in

  document.addEventListener("htmx:before:swap", () => {
    const active = document.activeElement;
    if (active && active !== document.body) {
      [focused, around] = [active.id, active.closest(".card")?.id];
      const ids = [...document.querySelectorAll(".sessions button")].map((button) => button.id), i = ids.indexOf(focused);
      beside = i < 0 ? [] : [...ids.slice(i + 1), ...ids.slice(0, i).reverse()];
    }
    olderRows = byId("history-older")?.rows.length;
    moreOpen = !!document.querySelector(".more-sessions[open]");
  });

  const heir = (id) => ({ "refresh-token": byId("sign-in-again"), "show-older": byId("history-older")?.rows[olderRows] })[id] ?? byId(beside.find(byId));

  // What had the focus and is gone leaves it to what took its place, or to the heading that it was under.
  function focusAgain() {
    if ((focused || around) && document.activeElement === document.body) {
      let next = focused && (byId(focused) || heir(focused));
      if (!next && around) next = byId(around)?.querySelector("h1, h2");
      if (next?.tabIndex < 0) next.tabIndex = -1; // so that it can have it
      next?.focus({ preventScroll: true });
    }
    focused = around = "";
  }

  document.addEventListener("htmx:after:swap", (event) => {
    const target = event.detail.ctx.target;
    dress(document);
    if (moreOpen) document.querySelector(".more-sessions")?.setAttribute("open", "");
    if (target && target.id === "inspector-body") {
      reloading = false;
      revealAgain();
    } else if (byId("revealed") && !click && !reloading) reveal = null;
    if (target && target.id === "session-list" && event.detail.ctx.request.method === "POST") {
      const left = target.querySelectorAll(".sessions li").length;
      announce(left === 1 ? "Signed out. Only this session is left." : `Signed out. ${left} sessions are left.`);
    }
    if (target && target.id === "try-it-answer") {
      announce([...target.querySelectorAll(".http, .http + .none, .result")].map((part) => part.innerText).join(" ")); // the body may be long
    }
    const older = target && target.id === "history-older" ? target.rows.length - olderRows : 0;
    if (older > 0) announce(older + (older === 1 ? " older renewal" : " older renewals"));
    if (target && target.id === "introspection-answer") announce(target.querySelector("[data-announce]").dataset.announce);
    focusAgain();
  });

  // What the scripts were on their way after the page's own card, in milliseconds.
  function sincePageCame() {
    const came = performance.getEntriesByType("navigation")[0]?.responseStart;
    return came ? performance.now() - came : 0;
  }

  function dress(root) {
    const card = byId("token-card");
    if (card && card !== shownCard) {
      const renewed = shownCard && shownCard.dataset.generation !== card.dataset.generation;
      const failure = failureOf(card);
      announceState(card.dataset.state, !click && failure && failure !== failureOf(shownCard) ? textOf(byId("result")) : "");
      skew = at(card, "now") - Date.now() + (shownCard ? 0 : sincePageCame());
      shownCard = card;
      if (renewed) {
        reloading = true;
        document.body.dispatchEvent(new Event("renewed"));
      }
    }
    localTimes(root);
    moment();
    for (const button of root.querySelectorAll("[data-copy]")) button.hidden = !navigator.clipboard;
    const shown = byId("revealed");
    if (shown && !shown.dataset.timed) {
      shown.dataset.timed = "yes";
      setTimeout(() => { if (shown.isConnected) hideRevealed(); }, Number(shown.dataset.hideAfter) * 1000);
    }
  }

  // The inspector: copied tokens are never on the page, revealed ones not for long

  // A renewal masks what is shown. A reveal that was asked for while it ran is for the token that it brought.
  function revealAgain() {
    const form = reveal && Date.now() < reveal.until ? document.querySelector(`form[hx-post="${reveal.path}"]`) : null;
    if (form) form.requestSubmit();
    else reveal = null;
  }

  document.addEventListener("submit", (event) => {
    const path = event.target.getAttribute("hx-post") || "";
    if (path.endsWith("/reveal")) reveal = { path, until: Date.now() + 20000 };
  });
  document.addEventListener("click", (event) => {
    if (event.target.closest && event.target.closest("#inspector-body a")) reveal = null;
  }, true);

  function hideRevealed() {
    const shown = byId("revealed");
    if (!shown) return;
    shown.textContent = mask;
    byId("reveal").click();
  }

  async function asked(path) {
    const answer = await fetch(path, { method: "POST", headers: { Accept: "text/plain", ...shownGrant() }, cache: "no-store" });
    if (answer.ok) return answer.text();
    const said = [401, 404].includes(answer.status) ? null : await answer.json().catch(() => ({}));
    throw new Error(said ? said.error?.message ?? "Keyturn cannot do that now. Try again in a moment." : "The page is no longer current. Reload it.");
  }

  // Safari takes only what is handed over while the click lasts, if it is there yet or not; older browsers only what is there.
  async function copy(text) {
    const blob = text.then((t) => new Blob([t], { type: "text/plain" }));
    blob.catch(() => {}); // who clicked is told below
    try {
      await navigator.clipboard.write([new ClipboardItem({ "text/plain": blob })]);
    } catch {
      await navigator.clipboard.writeText(await text);
    }
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest ? event.target.closest("[data-copy]") : null;
    if (!button) return;
    try {
      await copy(asked(button.dataset.copy));
      button.textContent = "Copied";
      announce("Copied");
    } catch (error) {
      button.textContent = "Not copied";
      const byHand = error instanceof DOMException && "The token could not be copied. Reveal it and copy it by hand.";
      if (error instanceof TypeError) {
        notifyUnreached();
        document.dispatchEvent(new Event("lost"));
      } else notify(byHand || error.message);
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });

  window.addEventListener("pagehide", () => { if (byId("revealed")) byId("revealed").textContent = mask; });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return;
    localTimes(document);
    document.body.dispatchEvent(new Event("sessions")); // somebody may have signed in elsewhere meanwhile
  });

  // Before it is painted: what is swapped in has the server's times.
  new MutationObserver((changes) => {
    for (const { addedNodes } of changes) {
      for (const node of addedNodes) if (node.nodeType === Node.ELEMENT_NODE) localTimes(node);
    }
  }).observe(document.body, { childList: true, subtree: true });

  dress(document);
  tick();
})();

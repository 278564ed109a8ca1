// The timeline: its present moves, what its bars stand for, and walking them by arrow keys.
"use strict";
(() => {
  const begin = (bar) => Date.parse(bar.dataset.from);

  // app.js writes it in the reader's time zone, as it does all times.
  function time(iso) {
    const time = document.createElement("time");
    time.dateTime = iso;
    time.dataset.shown = "time";
    return time;
  }

  function detail(bar) {
    const shown = document.getElementById("timeline-detail"), times = document.createElement("span");
    times.append(time(bar.dataset.from));
    if (bar.dataset.until) times.append(" to ", time(bar.dataset.until));
    shown.dataset.written ??= shown.textContent;
    shown.replaceChildren(bar.getAttribute("aria-label") + " · ", times);
  }

  const barOf = (event) => (event.target.closest ? event.target.closest(".bar, .mark") : null);
  for (const kind of ["pointerover", "focusin"]) {
    document.addEventListener(kind, (event) => { const bar = barOf(event); if (bar) detail(bar); });
  }
  // Then it says again what the server wrote, or what the bar is that has the focus; what a finger has tapped stays.
  for (const kind of ["pointerout", "focusout"]) {
    document.addEventListener(kind, (event) => {
      const shown = document.getElementById("timeline-detail"), focused = document.querySelector(".timeline :is(.bar, .mark):focus");
      if (!barOf(event) || event.pointerType === "touch" || !shown.dataset.written) return;
      if (focused) detail(focused);
      else shown.textContent = shown.dataset.written;
    });
  }
  document.addEventListener("keydown", (event) => {
    const bar = barOf(event);
    if (!bar) return;
    const all = [...document.querySelectorAll(".timeline .bar, .timeline .mark")].sort((a, b) => begin(a) - begin(b));
    const here = all.indexOf(bar);
    const next = { ArrowLeft: here - 1, ArrowRight: here + 1, Home: 0, End: all.length - 1 }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    const target = all[Math.min(all.length - 1, Math.max(0, next))];
    bar.setAttribute("tabindex", "-1");
    target.setAttribute("tabindex", "0");
    target.focus();
  });

  // The table is asked for when it is opened, and while it is open with each new picture.
  const look = (table) => table.dispatchEvent(new Event("look"));
  document.addEventListener("toggle", ({ target }) => { if (target.open && target.matches("#timeline details")) look(target.querySelector(".table")); }, true);
  let picture = document.getElementById("timeline-picture");
  document.addEventListener("htmx:after:swap", () => {
    if (picture === (picture = document.getElementById("timeline-picture"))) return;
    const table = document.querySelector("#timeline details[open] .table");
    if (table) look(table);
  });

  // The present moves with the time that it is at the server.
  document.addEventListener("moment", (event) => {
    const picture = document.querySelector("svg.timeline");
    if (!picture?.dataset.begin) return;
    if (event.detail > Date.parse(picture.dataset.end)) extend(picture, event.detail);
    const [begin, end] = [picture.dataset.begin, picture.dataset.end].map(Date.parse);
    const [from, to] = [picture.dataset.from, picture.dataset.to].map(parseFloat);
    const x = from + (to - from) * (end > begin ? Math.min(1, Math.max(0, (event.detail - begin) / (end - begin))) : 1);
    const line = picture.querySelector(".now"), word = line.querySelector("text");
    line.setAttribute("x", x + "%");
    word.setAttribute("dx", x > 50 ? -5 : 5);
    word.setAttribute("text-anchor", x > 50 ? "end" : "start");
    const valid = picture.querySelector(".valid"); // only the generation in use has it
    valid?.nextElementSibling.setAttribute("width", Math.max(0.1, Math.min(x - from, parseFloat(valid.getAttribute("width")))) + "%");
  });

  // Past the end of the axis, the end goes on with the present: what is drawn since the last issue draws together.
  function extend(picture, now) {
    const begin = Date.parse(picture.dataset.begin), from = parseFloat(picture.dataset.from);
    const shrink = (Date.parse(picture.dataset.end) - begin) / (now - begin);
    const drawn = (x) => (x > from ? from + shrink * (x - from) : x);
    for (const part of picture.querySelectorAll("rect, .mark svg")) {
      const x = parseFloat(part.getAttribute("x")), width = parseFloat(part.getAttribute("width"));
      part.setAttribute("x", drawn(x) + "%");
      if (width) part.setAttribute("width", drawn(x + width) - drawn(x) + "%");
    }
    if (from > 0) document.querySelector(".axis .uneven").hidden = false;
    picture.dataset.end = new Date(now).toISOString();
    const shown = document.querySelector(".axis .end"), moved = shown.cloneNode(true); // what comes is written in the reader's time zone
    moved.querySelector("time").dateTime = picture.dataset.end.replace(/\.\d+/, "");
    shown.replaceWith(moved);
  }
})();

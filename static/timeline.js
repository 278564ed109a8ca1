// The bars of the timeline: their numbers, what they stand for, and walking them by arrow keys.
"use strict";
(() => {
  const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
  const begin = (bar) => Date.parse(bar.dataset.from);

  function detail(bar) {
    const time = (iso) => clock.format(new Date(iso));
    const until = bar.dataset.until ? " to " + time(bar.dataset.until) : "";
    document.getElementById("timeline-detail").textContent = `${bar.getAttribute("aria-label")} · ${time(bar.dataset.from)}${until}`;
  }

  const barOf = (event) => (event.target.closest ? event.target.closest(".bar, .mark") : null);
  for (const kind of ["pointerover", "focusin"]) {
    document.addEventListener(kind, (event) => { const bar = barOf(event); if (bar) detail(bar); });
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

  // A number stands on the part of its bar that is gone by, or not at all. That part grows, and windows change.
  const widths = new ResizeObserver((entries) => {
    for (const { target, contentRect } of entries) {
      const number = target.nextElementSibling;
      number.setAttribute("visibility", contentRect.width < number.getComputedTextLength() + 10 ? "hidden" : "visible");
    }
  });
  function watch() {
    widths.disconnect();
    for (const used of document.querySelectorAll(".timeline .used:has(+ text)")) widths.observe(used);
  }
  const timeline = document.getElementById("timeline");
  if (timeline) {
    watch();
    new MutationObserver(watch).observe(timeline, { childList: true }); // a renewal brings another picture
  }
})();

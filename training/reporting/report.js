// Tooltips: what a mark's <title> says, at once, for the mark under the pointer or the nearest to it.
"use strict";
(() => {
  const NEAR_PX = 22;
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.setAttribute("aria-hidden", "true");
  document.body.append(tip);
  let lit = null;

  for (const title of document.querySelectorAll(".chart title")) {
    title.parentNode.dataset.tip = title.textContent;
    title.remove();
  }

  function under(event) {
    const mark = event.target.closest("[data-tip]");
    if (mark) return mark;
    let best = null, least = NEAR_PX;
    for (const each of event.currentTarget.querySelectorAll("use[data-tip]")) {
      const box = each.getBoundingClientRect();
      if (!box.width && !box.height) continue; // in the drawing for another width
      const away = Math.hypot(box.x + box.width / 2 - event.clientX, box.y + box.height / 2 - event.clientY);
      if (away < least) { best = each; least = away; }
    }
    return best;
  }

  function show(event) {
    const mark = under(event);
    if (lit && lit !== mark) lit.classList.remove("lit");
    lit = mark;
    tip.classList.toggle("shown", Boolean(mark));
    if (!mark) return;
    mark.classList.add("lit");
    tip.textContent = mark.dataset.tip;
    const box = tip.getBoundingClientRect();
    const x = Math.min(event.clientX + 14, innerWidth - box.width - 6);
    const y = event.clientY + 16 + box.height > innerHeight ? event.clientY - box.height - 10 : event.clientY + 16;
    tip.style.transform = `translate(${Math.max(x, 4)}px, ${y}px)`;
  }

  for (const chart of document.querySelectorAll(".chart")) {
    chart.addEventListener("pointermove", show);
    chart.addEventListener("pointerdown", show);
    chart.addEventListener("pointerleave", show);
  }
  addEventListener("scroll", () => tip.classList.remove("shown"), { passive: true });
})();

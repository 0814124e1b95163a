// The live page: draws what /events tells. Keys are text, never markup.
"use strict";
const $ = (id) => document.getElementById(id);
const number = (value, digits = 0) => value.toLocaleString("en", { maximumFractionDigits: digits, minimumFractionDigits: digits });
const COLUMNS = [
  // name in the picture, heading, digits, whether a phone does without
  ["app", "app"], ["cost_s", "cost, s", 1], ["waited_s", "waited, s", 1], ["wasted_gb_s", "wasted, GB·s", 0, true],
  ["requests", "requests", 0], ["cold", "no idle one", 0, true], ["idle", "idle", 0], ["busy", "serving", 0],
  ["starting", "starting", 0, true], ["waiting", "waiting", 0, true], ["memory_mb", "MB", 0, true], ["until_ms", "kept until", 0, true],
];
const REACH_MS = 600_000;
let sortedBy = "cost_s";
let fleet = null;
let source = null;

const chosen = () => (location.hash.startsWith("#app=") ? decodeURIComponent(location.hash.slice(5)) : null);

function listen() {
  if (source) source.close();
  const key = chosen();
  $("one").hidden = key === null;
  if (key !== null) $("one-name").textContent = key;
  source = new EventSource("events" + (key === null ? "" : "?app=" + encodeURIComponent(key)));
  source.addEventListener("fleet", (event) => { fleet = JSON.parse(event.data); showFleet(); });
  source.addEventListener("app", (event) => showApp(JSON.parse(event.data)));
  source.addEventListener("stalled", () => setStatus("stalled"));
  source.onerror = () => setStatus("gone");
}

function setStatus(status) {
  $("status").textContent = status;
  $("status").className = "badge " + status;
}

function fill(list, tag, texts) {
  list.replaceChildren(...texts.map((text) => Object.assign(document.createElement(tag), { textContent: text })));
}

function showFleet() {
  setStatus(fleet.status);
  document.body.dataset.told = fleet.now_ms;
  $("about").textContent = Object.entries(fleet.about).filter(([, value]) => value).map(([name, value]) => `${name.replace("_", " ")}: ${value}`).join(" · ");
  fill($("problems"), "li", Object.entries(fleet.problems).map(([part, problem]) => `${part}: ${problem}`));
  $("price").textContent = Number(fleet.price.toPrecision(3));
  const sum = (counts) => Object.values(counts).reduce((a, b) => a + b, 0);
  const totals = fleet.totals;
  const share = (count) => (totals.requests ? number((100 * count) / totals.requests, 1) + " %" : "–");
  const figures = {
    "apps known": number(fleet.known),
    "instances": number(sum(fleet.states)),
    "serving": number(fleet.states.busy || 0),
    "idle": number(fleet.states.idle || 0),
    "memory held": number(sum(fleet.memory_mb) / 1024, 1) + " GB",
    "idle memory": number((fleet.memory_mb.idle || 0) / 1024, 1) + " GB",
    "requests": number(totals.requests || 0),
    "found no idle one": share(totals.cold || 0),
    "only queued": share(totals.queued || 0),
    "waiting now": number(fleet.waiting),
    "waited a request": totals.requests ? number((totals.waited_ms || 0) / totals.requests, 1) + " ms" : "–",
    "wasted": number((totals.wasted_mb_s || 0) / 1024 / 3600, 2) + " GB·h",
  };
  const list = $("fleet");
  list.replaceChildren(...Object.entries(figures).map(([name, value]) => {
    const box = document.createElement("div");
    fill(box, "dt", [name]);
    box.append(Object.assign(document.createElement("dd"), { textContent: value }));
    return box;
  }));
  showShadow(fleet.shadow);
  showApps();
}

function showShadow(shadow) {
  $("shadow").hidden = !shadow;
  if (!shadow) return;
  const { serving, shadow: planned } = shadow;
  const of = (name, digits, scale) => `${number(serving[name] * scale, digits)} → ${number(planned[name] * scale, digits)}`;
  $("shadow-name").textContent = shadow.policy;
  $("shadow-said").textContent = shadow.problem
    ? `It plans no more: ${shadow.problem}`
    : `Of ${number(serving.requests)} requests, served → planned: ${of("cold", 0, 1)} found no idle instance, ` +
      `${of("waited_ms", 1, 0.001)} s waited, ${of("slot_gb_s", 1, 1 / 3600)} GB·h held.`;
}

function showApps() {
  const at = Object.fromEntries(fleet.columns.map((name, index) => [name, index]));
  const wanted = $("filter").value;
  let rows = fleet.apps.filter((row) => row[0].includes(wanted));
  const by = at[sortedBy];
  rows.sort((a, b) => (by === 0 ? a[0].localeCompare(b[0]) : (b[by] ?? 0) - (a[by] ?? 0)));
  $("shown").textContent = fleet.apps.length < fleet.known ? `The ${fleet.apps.length} that cost most.` : "";
  const body = $("apps");
  while (body.rows.length > rows.length) body.lastChild.remove();
  rows.forEach((row, index) => {
    let line = body.rows[index];
    if (!line) {
      line = body.insertRow();
      COLUMNS.forEach(([, , , less], column) => {
        const cell = line.insertCell();
        if (less) cell.className = "less";
        if (!column) cell.append(document.createElement("a"));
      });
    }
    const link = line.cells[0].firstChild;
    if (link.textContent !== row[0]) {
      link.textContent = row[0];
      link.title = row[0];
      link.href = "#app=" + encodeURIComponent(row[0]);
    }
    for (let column = 1; column < COLUMNS.length; column++) {
      const [name, , digits] = COLUMNS[column];
      const value = row[at[name]];
      const text = name === "until_ms" ? (value ? timeOf(value) : "") : number(value, digits);
      const cell = line.cells[column];
      if (cell.textContent !== text) cell.textContent = text;
    }
  });
}

const timeOf = (ms) => new Date(ms).toISOString().slice(11, 19);

function showApp(app) {
  if (app === null) { fill($("sentences"), "li", ["It is not known here, or forgotten."]); return; }
  fill($("sentences"), "li", app.sentences);
  timeline(app);
  distribution(app);
}

function draw(svg, width, height, shapes) {
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren(...shapes.map(([tag, attributes, text]) => {
    const shape = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) shape.setAttribute(name, value);
    if (text !== undefined) shape.textContent = text;
    return shape;
  }));
}

function timeline(app) {
  const width = Math.max(300, $("timeline").clientWidth || 800), row = 16, from = app.now_ms - REACH_MS;
  const x = (ms) => ((Math.max(ms, from) - from) / REACH_MS) * width;
  const spans = app.spans.filter(([, , , to]) => to > from);
  for (const each of app.instances) {
    const kind = each.state === "busy" ? "busy" : each.state === "idle" ? "idle" : "starting";
    const last = spans.filter(([id]) => id === each.id).reduce((most, [, , , to]) => Math.max(most, to), each.since_ms);
    spans.push([each.id, kind, kind === "busy" ? last : each.since_ms, app.now_ms]);
  }
  const ids = [...new Set(spans.map(([id]) => id))];
  const height = 14 + row * Math.max(ids.length, 1) + 20;
  const shapes = spans.map(([id, kind, begin, end]) => ["rect", {
    class: kind, x: x(begin), width: Math.max(1.5, x(end) - x(begin)), y: 14 + row * ids.indexOf(id), height: row - 3,
  }]);
  for (const each of app.cold_starts) if (each.arrival_ms > from) {
    shapes.push(["line", { class: "mark", x1: x(each.arrival_ms), x2: x(each.arrival_ms), y1: 1, y2: 12 }]);
  }
  for (let minute = 0; minute <= 10; minute += 2) {
    const at = width * (1 - minute / 10);
    shapes.push(["text", { x: at, y: height - 4, "text-anchor": minute === 0 ? "end" : minute === 10 ? "start" : "middle" }, minute ? `−${minute} min` : "now"]);
  }
  draw($("timeline"), width, height, shapes);
}

function distribution(app) {
  const expected = app.expected, known = expected && expected.by_ms.some((ms) => ms !== null);
  $("distribution").toggleAttribute("hidden", !known);
  $("belief").textContent = known
    ? `By ${expected.longer} past idle times that were longer than the present one.`
    : "The policy expects nothing in particular.";
  if (!known) return;
  const width = Math.max(300, $("distribution").clientWidth || 800), height = 150, left = 44, bottom = 24;
  const ahead = expected.by_ms.map((ms) => (ms === null ? Infinity : Math.max(0, (ms - app.now_ms) / 1000)));
  const most = Math.max(...ahead.filter(Number.isFinite), 1);
  // Logarithmic from a second on, for what is due soon and what may take hours.
  const x = (s) => left + ((width - left - 8) * Math.log1p(Math.min(s, most))) / Math.log1p(most);
  const y = (share) => height - bottom - (height - bottom - 8) * share;
  const shapes = [0, 0.5, 1].flatMap((share) => [
    ["line", { class: "axis", x1: left, x2: width - 8, y1: y(share), y2: y(share) }],
    ["text", { x: left - 6, y: y(share) + 4, "text-anchor": "end" }, `${100 * share} %`],
  ]);
  let path = `M${x(0)},${y(0)}`;
  ahead.forEach((s, index) => { if (Number.isFinite(s)) path += `H${x(s)}V${y((index + 1) / 20)}`; });
  shapes.push(["path", { class: "curve", d: path }]);
  let taken = -Infinity;
  for (const [s, text] of [[0, "now"], [1, "1 s"], [10, "10 s"], [60, "1 min"], [600, "10 min"], [3600, "1 h"], [86400, "1 day"]]) {
    if (s > most || x(s) < taken + 46) continue;
    taken = x(s);
    shapes.push(["text", { x: taken, y: height - 6, "text-anchor": taken > width - 50 ? "end" : "middle" }, text]);
  }
  draw($("distribution"), width, height, shapes);
}

for (const [name, heading, , less] of COLUMNS) {
  const head = document.createElement("th");
  if (less) head.className = "less";
  if (name === sortedBy) head.setAttribute("aria-sort", "descending");
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: heading });
  button.addEventListener("click", () => {
    sortedBy = name;
    for (const each of $("heads").children) each.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", name === "app" ? "ascending" : "descending");
    if (fleet) showApps();
  });
  head.append(button);
  $("heads").append(head);
}
$("filter").addEventListener("input", () => fleet && showApps());
addEventListener("hashchange", listen);
listen();

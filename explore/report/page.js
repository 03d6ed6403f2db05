/* The page: the study, a view of each device, and what a reader does with them. */

const study = readStudy(JSON.parse(document.getElementById("data").textContent));

/* Rows become objects; metrics and axes are found by number. */
function readStudy(data) {
  const numbers = new Map(data.metrics.map((metric, i) => [metric.name, i]));
  const readRow = ([index, choices, hash, metrics]) => ({ index, choices, hash, metrics });
  const devices = data.devices.map((device, d) => {
    const [front, points, measured] = [device.front, device.points, device.measured].map((rows) => rows.map(readRow));
    return { ...data.summary.devices[d], ...device, front, points, measured: new Map(measured.map((row) => [row.index, row])), frontSize: data.summary.front[device.name].length,
      onFront: new Set(front.map((row) => row.index)), byIndex: new Map(points.concat(front).map((row) => [row.index, row])) };
  });
  const objectives = data.summary.objectives.map(({ metric, maximise }) => ({ metric: numbers.get(metric), maximise }));
  return { ...data, numbers, devices, objectives };
}

function metricUnit(name) {
  return study.metrics[study.numbers.get(name)].unit;
}

function badge(fidelity) {
  return `<span class="badge ${fidelity}">${fidelity}</span>`;
}

/* The point of a front that is nearest to the best of every objective, each from 0 to 1 over the front. */
function middleOf(device) {
  const goals = modelledGoals(device), ends = goals.map(({ metric }) => minmax(device.front.map((row) => row.metrics[metric])));
  const distance = (row) => sum(goals.map(({ metric, maximise }, i) => {
    const [low, high] = ends[i], part = high > low ? (row.metrics[metric] - low) / (high - low) : 0;
    return (maximise ? 1 - part : part) ** 2;
  }));
  return device.front.reduce((best, row) => (best === null || distance(row) < distance(best) ? row : best), null);
}

/* What a reader sees of a device. Objectives that only measured points have are shown where there are such points. */
function makeView(device, number) {
  const [first, second] = device.measured.size || device.front.length === 0 ? study.objectives : modelledGoals(device), middle = middleOf(device);
  return { device, number, x: first.metric, y: (second || { metric: study.numbers.get("weight_bytes") }).metric, colour: -1, chosen: middle ? middle.index : null,
    sort: null, root: null };
}

const views = study.devices.map(makeView);

/* ---- the head */

function objectiveWords() {
  return study.objectives.map(({ metric, maximise }) => `${maximise ? "largest" : "least"} ${study.metrics[metric].name}`).join(", ");
}

function budgetWords() {
  const words = Object.entries(study.summary.budgets).flatMap(([name, { low, high }]) => [
    ...(low === undefined ? [] : [`${name} ≥ ${amount(low, metricUnit(name))}`]), ...(high === undefined ? [] : [`${name} ≤ ${amount(high, metricUnit(name))}`])]);
  return words.length ? words.join(", ") : "none";
}

function workloadWords({ prefill, decode, batch, threads }) {
  return `a prompt of ${prefill} tokens, then ${decode} decoded; ${batch} sequence${batch > 1 ? "s" : ""} at once; ${threads ? `${threads} thread${threads > 1 ? "s" : ""}` : "as many threads as a device has workers"}`;
}

function head() {
  const s = study.summary, invalid = Object.entries(s.invalid), n = sum(invalid.map(([, count]) => count));
  const counts = [[s.points, "points"], [s.excluded, "excluded by require"], [n, "invalid"], [s.over_budget, "over budget everywhere"], [s.kept, "kept"]];
  const fidelities = new Set(study.devices.map((device) => device.fidelity).concat(study.devices.some((device) => device.measured.size) ? ["measured"] : []));
  return `<h1>${escaped(s.name)}</h1><p class="soft">Which spec fits? Points of a space of specs, their costs on ${s.devices.length === 1 ? "a device" : `${s.devices.length} devices`}, and those that no other one beats.</p>
<ul class="counts">${counts.map(([count, words]) => `<li><b>${whole(count)}</b><span>${words}</span></li>`).join("")}</ul>
<dl class="asked"><dt>Objectives</dt><dd>${objectiveWords()}</dd><dt>Budgets</dt><dd>${budgetWords()}</dd><dt>Workload</dt><dd>${workloadWords(s.workload)}</dd>
<dt>Points</dt><dd>${s.method === "all" ? "every point of the space" : `a ${s.method} sample of the space`}; ${s.axes.map((axis) => `${escaped(axis.name)} (${axis.values.length})`).join(", ")}</dd>
<dt>Fidelity</dt><dd>${[...fidelities].map((fidelity) => `${badge(fidelity)} ${fidelityWords(fidelity)}`).join("<br>")}</dd></dl>
${invalid.length ? `<div class="wide"><table><thead><tr><th>points</th><th class="text">invalid: what the front end says</th></tr></thead><tbody>${invalid.map(([message, count]) =>
    `<tr><td>${whole(count)}</td><td class="text wrap">${escaped(message)}</td></tr>`).join("")}</tbody></table></div>` : ""}
<nav aria-label="Sections">${views.map(({ device, number }) => `<a href="#device-${number}">${escaped(device.name)}</a>`).join("")}<a href="#calibration">Calibration</a></nav>`;
}

const FIDELITIES = {
  modelled: "times are computed from the program that would be compiled and the device's limits; nothing was run",
  calibrated: "times are the model's, with constants fitted to measurements on that device",
  measured: "the program was compiled and run; shown as diamonds, and never as a point of the front",
};

function fidelityWords(fidelity) {
  return FIDELITIES[fidelity];
}

/* ---- a device */

function choicesOf(list, chosen) {
  return list.map(([value, name]) => `<option value="${value}"${value === chosen ? " selected" : ""}>${escaped(name)}</option>`).join("");
}

/* Metrics that are known of some point, measured or not. */
function knownMetrics(device) {
  return study.metrics.map((metric, i) => [i, metric.name]).filter(([i]) => [...device.front, ...device.measured.values()].some((row) => row.metrics[i] !== null));
}

function controls(view) {
  const metrics = knownMetrics(view.device), axes = [[-1, "front or not"], ...study.summary.axes.map((axis, i) => [i, axis.name])];
  return `<div class="controls">${[["x", "across", metrics], ["y", "up", metrics], ["colour", "colour", axes]].map(([key, word, list]) =>
    `<label>${word} <select data-set="${key}">${choicesOf(list, view[key])}</select></label>`).join("")}</div>`;
}

function deviceSection(view) {
  const { device, number } = view, mark = badge(device.fidelity);
  return `<section id="device-${number}" data-device="${escaped(device.name)}"><h2>${escaped(device.name)} ${mark}</h2>
<p class="soft">${escaped(device.about.charAt(0).toUpperCase() + device.about.slice(1))}. With ${device.threads} thread${device.threads > 1 ? "s" : ""}: reading ${digits(device.read_gb_s, 3)} GB/s, multiply-adds ${digits(device.panel_gflop_s, 3)} GFLOP/s, exp ${digits(device.exp_g_s, 3)} G/s.
${whole(device.kept)} points kept, ${whole(device.over_budget)} over budget, ${whole(device.frontSize)} on the front.</p>
${device.front.length === 0 ? "<p>No point is within the budgets here: there is no front.</p>" : `
<div class="pair"><figure><h3>The front ${mark}${device.measured.size ? ` ${badge("measured")}` : ""}</h3><figcaption>Every kept point by two of its metrics; budgets are dashed, with what they shut out shaded. Click a point for its spec; arrow keys walk along the front.</figcaption>
${controls(view)}<div data-part="scatter"></div><div data-part="legend"></div></figure>
<div class="card detail" data-part="detail" aria-live="polite"></div></div>
<div data-part="work"></div>${measuredTable(view)}
<figure><h3>Choices along the front ${mark}</h3><figcaption>A line is a point of the front: its value on every axis, and what that comes to; from blue to orange by ${study.metrics[lastObjective(device)].name}, from least to most. Lines through one value are fanned out in that order.
Grey: kept points that are not on the front. A click chooses.</figcaption><div data-part="parallel"></div></figure>
<figure class="long"><h3>Which axes matter ${mark}</h3><figcaption>Each objective's spread over the kept points with one value of an axis: least, quartiles, median, most. The bar is the part of the objective's variance between points that lies between the axis's values; axes that matter most come first, and of an axis with many values neighbours share a box.
Budgets cut points off, and so does <code>when</code>: an axis that does not apply has its first value.</figcaption><div data-part="spread"></div></figure>
<figure class="long"><h3>The front as a table ${mark}</h3><figcaption>${device.front.length < device.frontSize ? `${device.front.length} of ${whole(device.frontSize)} rows, evenly spread; front.csv has all.` : "All rows of front.csv for this device."} A heading sorts, a number shows the point.</figcaption><div class="scroll full" data-part="table" tabindex="0"></div></figure>`}</section>`;
}

/* ---- what was measured */

/* Metrics that only measurements have, or have otherwise than the model. */
function measuredMetrics(device) {
  const rows = [...device.measured.values()];
  return ["decode_ms", "prefill_ms", "code_bytes", "compile_ms", "quality"].map((name) => study.numbers.get(name)).filter((i) => rows.some((row) => row.metrics[i] !== null));
}

/* What was measured; of times also what was predicted, and how far off that is. */
function measuredCells(device, row, i, timed) {
  const predicted = device.byIndex.get(row.index), value = row.metrics[i], other = predicted ? predicted.metrics[i] : null, unit = study.metrics[i].unit;
  const off = other === null || value === null ? "–" : `${(100 * (other / value - 1)).toFixed(1)} %`;
  return `<td>${amount(value, unit)}</td>${timed ? `<td>${amount(other, unit)}</td><td>${off}</td>` : ""}`;
}

function measuredTable({ device }) {
  if (device.measured.size === 0) return "";
  const metrics = measuredMetrics(device), timed = (i) => ["decode_ms", "prefill_ms"].includes(study.metrics[i].name);
  const heads = metrics.map((i) => `<th>${study.metrics[i].name} ${badge("measured")}</th>${timed(i) ? `<th>${badge(device.fidelity)}</th><th>off by</th>` : ""}`);
  const rows = [...device.measured.values()].map((row) => `<tr data-measured="${row.index}"><td><a href="#point=${row.index}&amp;device=${encodeURIComponent(device.name)}">${row.index}</a></td>${metrics.map((i) => measuredCells(device, row, i, timed(i))).join("")}</tr>`);
  return `<figure class="long"><h3>Measured points ${badge("measured")} ${badge(device.fidelity)}</h3><figcaption>Points that were compiled and run on this machine (measured.csv), and how far the prediction of each is off; a dash: the point is not among those of this page.</figcaption>
<div class="scroll" tabindex="0"><table><thead><tr><th>point</th>${heads.join("")}</tr></thead><tbody>${rows.join("")}</tbody></table></div></figure>`;
}

/* ---- the chosen point */

function budgetShare(name, value) {
  const budget = study.summary.budgets[name];
  return budget && budget.high > 0 && value !== null ? ` <span class="soft">${(100 * value / budget.high).toFixed(0)}&nbsp;%</span>` : "";
}

function specOf(index) {
  const lines = study.specs[index];
  return lines ? lines.map((line) => study.lines[line]).join("\n") + "\n" : null;
}

function copyButton(what) {
  return `<button type="button" data-copy="${what}">Copy</button>`;
}

function measuredOf({ device, chosen }) {
  const row = device.measured.get(chosen);
  return row ? `<h4>${badge("measured")}</h4><dl>${measuredMetrics(device).map((i) => `<div><dt>${study.metrics[i].name}</dt><dd>${amount(row.metrics[i], study.metrics[i].unit)}</dd></div>`).join("")}</dl>` : "";
}

function detail(view) {
  const row = view.device.byIndex.get(view.chosen), spec = specOf(view.chosen), command = `mossc explore spec DIR --point ${view.chosen}`;
  if (!row) return `<h3>Point ${view.chosen}</h3><p>It is not among the points of this page: over budget on this device, or left out. <code>mossc explore spec DIR --point ${view.chosen}</code> prints its spec.</p>`;
  const axes = study.summary.axes.map((axis, i) => `<div><dt>${escaped(axis.name)}</dt><dd>${escaped(axis.values[row.choices[i]])}</dd></div>`);
  const metrics = knownMetrics(view.device).map(([i, name]) => `<div><dt>${name}</dt><dd>${amount(row.metrics[i], study.metrics[i].unit)}${budgetShare(name, row.metrics[i])}</dd></div>`);
  return `<div class="top"><h3>Point <span data-shown>${row.index}</span> ${badge(view.device.fidelity)}</h3><span class="soft">${view.device.onFront.has(row.index) ? "on the front" : "kept, not on the front"}</span>
<span class="right"><button type="button" data-walk="-1" aria-label="previous point of the front">←</button> <button type="button" data-walk="1" aria-label="next point of the front">→</button></span></div>
<h4>Axes</h4><dl class="short">${axes.join("")}</dl><h4>Metrics <span class="soft">(and their part of the budget)</span></h4><dl>${metrics.join("")}</dl>
${measuredOf(view)}<p class="soft">spec_hash <code>${row.hash}</code></p>
<div class="command"><code>${command}</code> ${copyButton("command")}</div>
${spec ? `<div class="top"><h4>Spec</h4><span class="right">${copyButton("spec")}</span></div><pre class="spec">${spec.trimEnd().split("\n").map((line) => `<span>${escaped(line)}</span>`).join("")}</pre>`
    : "<p>The page carries specs of points on the front; the command prints this one.</p>"}`;
}

function workFigure(view, width) {
  const mark = badge(view.device.fidelity);
  if (!view.device.work[view.chosen]) return `<figure><h3>Roofline</h3><p>It is drawn for points of the front that have their spec here. <code>mossc explain</code> shows the same of any spec.</p></figure>`;
  return `<figure class="long"><h3>Roofline of point ${view.chosen} ${mark}</h3><figcaption>The rate that each kind of kernel comes to in the model, by its FLOPs a byte (weights, states and activations), below what the device allows. The larger a mark, the more of the step's time.
Kernels below the roof spend their time on exp, on the fixed part of a phase, or with idle workers.</figcaption>
<div class="pair even"><div>${roofline(view, width)}<ul class="legend">${dot("decode", "a decoded token")}<li><svg viewBox="0 0 10 10"><rect class="prefill" x="1" y="1" width="8" height="8"/></svg>the prompt</li><li>dotted: the last cache, ${digits(view.device.cache_gb_s, 3)} GB/s</li></ul></div>
<div>${STEPS.map((step) => workTable(view, step)).join("")}</div></div></figure>`;
}

/* ---- the table */

/* Columns: [title, text of a row, number or text to sort by, class]. */
function tableColumns(view) {
  const metrics = knownMetrics(view.device).map(([i]) => i), goals = study.objectives.map(({ metric }) => metric);
  const order = goals.concat(metrics.filter((i) => !goals.includes(i)));
  return [
    ["point", (row) => `<a href="#point=${row.index}&amp;device=${encodeURIComponent(view.device.name)}">${row.index}</a>`, (row) => row.index, ""],
    ...study.summary.axes.map((axis, i) => [axis.name, (row) => escaped(axis.values[row.choices[i]]), (row) => row.choices[i], ""]),
    ...order.map((i) => [study.metrics[i].name, (row) => amount(row.metrics[i], study.metrics[i].unit), (row) => row.metrics[i], ""]),
    ["spec_hash", (row) => `<span title="${row.hash}">${row.hash.slice(0, 10)}</span>`, (row) => row.hash, "code text"],
  ];
}

function sortedFront(view, columns) {
  if (!view.sort) return view.device.front;
  const [column, down] = view.sort, key = columns[column][2];
  return [...view.device.front].sort((a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : a.index - b.index) * (down ? -1 : 1));
}

function table(view) {
  const columns = tableColumns(view), arrow = (i) => (view.sort && view.sort[0] === i ? (view.sort[1] ? " ↓" : " ↑") : "");
  const heads = columns.map(([title], i) => `<th scope="col"><button type="button" data-sort="${i}">${escaped(title)}${arrow(i)}</button></th>`);
  const rows = sortedFront(view, columns).map((row) => `<tr data-row="${row.index}"${row.index === view.chosen ? ' class="chosen"' : ""}>${columns.map(([, text, , style]) => `<td class="${style}">${text(row)}</td>`).join("")}</tr>`);
  return `<table><thead><tr>${heads.join("")}</tr></thead><tbody>${rows.join("")}</tbody></table>`;
}

/* ---- calibration */

function calibrationSection(width) {
  const title = '<section id="calibration"><h2>Calibration</h2>', given = study.calibration;
  const measured = sum(study.devices.map((device) => device.measured.size));
  if (!given) return `${title}<p>${measured ? `${measured} points of this study were measured, and no constants were fitted to them yet:` : `Nothing was measured in this study. <code>mossc explore SPACE -o DIR --measure M</code> compiles and runs M points on this machine;`}
<code>mossc explore calibrate DIR -o DEVICE.yaml</code> fits the device's constants to them and says here how well they tell points that it did not see.</p></section>`;
  const percent = (value) => (Number.isFinite(value) ? `${digits(100 * value, 3)} %` : "–"), plain = (value) => (Number.isFinite(value) ? digits(value, 3) : "–");
  const rows = given.metrics.map((row) => `<tr><td class="text">${escaped(row.metric)}</td><td class="text">${badge(escaped(row.fidelity))}</td><td>${row.n}</td><td>${percent(row.mape)}</td><td>${percent(row.median)}</td>
<td>${percent(row.within_10)}</td><td>${plain(row.spearman)}</td><td>${plain(row.kendall)}</td></tr>`);
  const metrics = [...new Set(given.points.map((point) => point.metric))];
  return `${title}<figure><h3>Predicted against measured ${badge("measured")}</h3><figcaption>How far predictions are from measurements of points that the fit did not see (held out), for each metric: mean and median of the relative error, the share of points within 10 %, and how well the order of points is told.</figcaption>
<div class="wide"><table><thead><tr><th class="text">metric</th><th class="text">fidelity</th><th>points</th><th>mean error</th><th>median</th><th>within 10 %</th><th>Spearman</th><th>Kendall</th></tr></thead><tbody>${rows.join("")}</tbody></table></div>
<ul class="legend">${dot("raw held", "modelled, held out")}${dot("raw", "modelled, of the fit")}${dot("held", "calibrated, held out")}${dot("fitted", "calibrated, of the fit")}<li>the line: as measured; dotted: 10 % above</li></ul>
<div class="groups">${metrics.map((metric) => `<div class="keep"><h4>${escaped(metric)}</h4>${calibrationFigure(metric, given.points.filter((point) => point.metric === metric), Math.min(560, width))}</div>`).join("")}</div></figure></section>`;
}

/* ---- drawing */

function part(view, name) {
  return view.root.querySelector(`[data-part="${name}"]`);
}

function put(view, name, make) {
  const at = part(view, name);
  if (at) at.innerHTML = make(view, Math.max(320, Math.floor(at.clientWidth)));
}

/* What is of the chosen point alone. */
function drawChosen(view) {
  put(view, "scatter", scatter);
  put(view, "detail", detail);
  put(view, "work", (of, width) => workFigure(of, matchMedia("(min-width: 1500px)").matches ? Math.floor(0.41 * width) : Math.min(900, width - 40)));
}

/* Marks it where all points are: its line comes before the others, its row is coloured. */
function markChosen(view) {
  for (const element of view.root.querySelectorAll(".path.chosen, tr.chosen")) element.classList.remove("chosen");
  for (const element of view.root.querySelectorAll(`.path[data-point="${view.chosen}"], tr[data-row="${view.chosen}"]`)) element.classList.add("chosen");
  const line = view.root.querySelector(".path.chosen");
  if (line) line.parentNode.insertBefore(line, line.parentNode.querySelector(".columns"));
}

function draw(view) {
  put(view, "legend", scatterLegend);
  put(view, "spread", spread);
  put(view, "parallel", parallel);
  put(view, "table", table);
  drawChosen(view);
}

function choose(view, index) {
  view.chosen = index;
  drawChosen(view);
  markChosen(view);
}

/* Points of the front from left to right in the scatter. */
function walk(view, by) {
  const order = [...view.device.front].sort((a, b) => a.metrics[view.x] - b.metrics[view.x] || a.index - b.index), at = order.findIndex((row) => row.index === view.chosen);
  choose(view, order[(at + by + order.length) % order.length].index);
}

/* ---- what a reader does */

function viewOf(element) {
  const root = element.closest("section[data-device]");
  return root ? views.find((view) => view.root === root) : null;
}

/* The address then leads to the point, without a step in the history. */
function note(view) {
  try {
    history.replaceState(null, "", `#point=${view.chosen}&device=${encodeURIComponent(view.device.name)}`);
  } catch {
    /* some browsers keep files from it */
  }
}

function followHash() {
  const asked = new URLSearchParams(location.hash.slice(1)), index = Number(asked.get("point"));
  if (!asked.has("point") || !Number.isSafeInteger(index)) return;
  for (const view of views)
    if (view.device.front.length && (asked.has("device") ? asked.get("device") === view.device.name : view.device.byIndex.has(index))) choose(view, index);
}

async function copy(button, view) {
  const text = button.dataset.copy === "spec" ? specOf(view.chosen) : `mossc explore spec DIR --point ${view.chosen}`;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(button.dataset.copy === "spec" ? part(view, "detail").querySelector("pre") : button.parentElement.querySelector("code"));
    button.textContent = "Selected";
  }
}

function onClick(event) {
  const view = viewOf(event.target), at = (name) => event.target.closest(`[data-${name}]`);
  if (!view) return;
  if (at("point")) choose(view, Number(at("point").dataset.point));
  else if (at("walk")) walk(view, Number(at("walk").dataset.walk));
  else if (at("copy")) return void copy(at("copy"), view);
  else if (at("sort")) return void sortBy(view, Number(at("sort").dataset.sort));
  else return;
  note(view);
}

function sortBy(view, column) {
  view.sort = [column, Boolean(view.sort) && view.sort[0] === column && !view.sort[1]];
  put(view, "table", table);
  part(view, "table").querySelector(`[data-sort="${column}"]`).focus();
}

function onKey(event) {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key], view = viewOf(event.target);
  if (!by || !view || !event.target.closest('[data-keys="front"]')) return;
  event.preventDefault();
  walk(view, by);
  part(view, "scatter").querySelector("svg").focus();
  note(view);
}

function tipOf(element, view) {
  if (element.dataset.tip) return escaped(element.dataset.tip);
  const row = view && view.device.byIndex.get(Number(element.dataset.point));
  if (!row) return "";
  const goals = study.objectives.map(({ metric }) => `${study.metrics[metric].name} <b>${amount(row.metrics[metric], study.metrics[metric].unit)}</b>`);
  return `point ${row.index}, ${view.device.fidelity}<br>${study.summary.axes.map((axis, i) => `${escaped(axis.name)}&nbsp;${escaped(axis.values[row.choices[i]])}`).join(", ")}<br>${goals.join(", ")}`;
}

function onMove(event) {
  const tip = document.getElementById("tip"), element = event.target.closest("[data-point], [data-tip]");
  tip.hidden = !element;
  if (!element) return;
  tip.innerHTML = tipOf(element, viewOf(element));
  tip.style.left = `${Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8)}px`;
  tip.style.top = `${event.clientY + 18 + tip.offsetHeight > innerHeight ? event.clientY - tip.offsetHeight - 10 : event.clientY + 18}px`;
}

function onChange(event) {
  const view = viewOf(event.target), key = event.target.dataset.set;
  if (!view || !key) return;
  view[key] = Number(event.target.value);
  put(view, "scatter", scatter);
  put(view, "legend", scatterLegend);
}

function begin() {
  const main = document.getElementById("main");
  document.title = `${study.summary.name}: mossc explore`;
  document.getElementById("head").innerHTML = head();
  main.innerHTML = views.map(deviceSection).join("") + calibrationSection(main.clientWidth - 40);
  for (const view of views) {
    view.root = document.getElementById(`device-${view.number}`);
    draw(view);
  }
  document.getElementById("foot").textContent = `mossc ${study.summary.version}. points.csv, front.csv and summary.json beside this page have its numbers.`;
  followHash();
  main.addEventListener("click", onClick);
  main.addEventListener("keydown", onKey);
  main.addEventListener("change", onChange);
  main.addEventListener("pointermove", onMove);
  addEventListener("hashchange", followHash);
  let width = innerWidth;
  addEventListener("resize", () => {
    if (width === innerWidth) return;
    width = innerWidth;
    views.forEach(draw);
  });
}

begin();

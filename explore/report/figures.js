/* The figures of a device. Each takes the view (page.js) and a width, and gives SVG or HTML as a text. */

const COLOURS = ["#0b6f77", "#c2410c", "#7a4fb0", "#946200", "#2f7d32", "#b0306a", "#3566b8", "#6b6b6b"];

/* The colour of a value's place among so many: one of a list, or on a ramp from blue to orange. */
function colourOf(place, count) {
  return count <= COLOURS.length ? COLOURS[place] : ramp(place / (count - 1));
}

/* From blue by purple to orange. */
function ramp(part) {
  const stops = [[43, 108, 184], [138, 90, 168], [217, 102, 43]], place = Math.min(1.999, 2 * part), at = Math.floor(place);
  return `rgb(${stops[at].map((value, i) => Math.round(value + (place - at) * (stops[at + 1][i] - value))).join(" ")})`;
}

/* ---- the front */

function budgetLine(plane, bound, upper, upright, name) {
  const scale = upright ? plane.x : plane.y, text = `${name} ${upper ? "≤" : "≥"} ${amount(bound, metricUnit(name))}`;
  if (!scale.reaches(bound)) {
    const beyond = upper ? bound > scale.high : bound < scale.low;
    const note = `${text}: ${beyond ? "beyond this figure" : "no point here is within"}`;
    return upright
      ? `<text class="budget" x="${plane.right - 4}" y="${plane.bottom - 8}" text-anchor="end">${escaped(note)} ${upper === beyond ? "→" : "←"}</text>`
      : `<text class="budget" x="${plane.left + 8}" y="${plane.top + 12}">${escaped(note)} ${upper === beyond ? "↑" : "↓"}</text>`;
  }
  if (upright) {
    const x = plane.px(bound), inside = x > (plane.left + plane.right) / 2;
    const out = upper ? `M${x} ${plane.top}H${plane.right}V${plane.bottom}H${x}Z` : `M${x} ${plane.top}H${plane.left}V${plane.bottom}H${x}Z`;
    return `<path class="out" d="${out}"/><path class="budget" d="M${x} ${plane.top}V${plane.bottom}"/>
<text class="budget" x="${inside ? x - 6 : +x + 6}" y="${plane.bottom - 8}" text-anchor="${inside ? "end" : "start"}">${escaped(text)}</text>`;
  }
  const y = plane.py(bound), edge = upper ? plane.top : plane.bottom;
  return `<path class="out" d="M${plane.left} ${y}V${edge}H${plane.right}V${y}Z"/><path class="budget" d="M${plane.left} ${y}H${plane.right}"/>
<text class="budget" x="${plane.left + 8}" y="${y - plane.top < 18 ? +y + 15 : y - 6}">${escaped(text)}</text>`;
}

function budgetLines(plane, name, upright) {
  const budget = study.summary.budgets[name];
  if (!budget) return "";
  return [["high", true], ["low", false]]
    .filter(([end]) => budget[end] !== undefined)
    .map(([end, upper]) => budgetLine(plane, budget[end], upper, upright, name)).join("");
}

function circle(plane, view, row, kind, radius) {
  const x = row.metrics[view.x], y = row.metrics[view.y];
  if (x === null || y === null) return "";
  const colour = view.colour < 0 ? "" : ` style="fill:${colourOf(row.choices[view.colour], study.summary.axes[view.colour].values.length)}"`;
  return `<circle class="${kind}" data-point="${row.index}" cx="${plane.px(x)}" cy="${plane.py(y)}" r="${radius}"${colour}/>`;
}

/* Objectives that are known of points which were not measured. */
function modelledGoals(device) {
  return study.objectives.filter(({ metric }) => device.front.some((row) => row.metrics[metric] !== null));
}

/* The line through the front, where the figure's axes are the only two objectives: steps would say more than is known. */
function frontLink(plane, view) {
  const goals = study.objectives.map((objective) => objective.metric);
  if (goals.length !== 2 || !goals.includes(view.x) || !goals.includes(view.y)) return "";
  const line = view.device.front.filter((row) => row.metrics[view.x] !== null && row.metrics[view.y] !== null).sort((a, b) => a.metrics[view.x] - b.metrics[view.x] || a.metrics[view.y] - b.metrics[view.y]);
  return `<path class="link" d="M${line.map((row) => `${plane.px(row.metrics[view.x])} ${plane.py(row.metrics[view.y])}`).join("L")}"/>`;
}

/* A measured point as a diamond, with a line to what was predicted of it. */
function diamond(plane, view, row) {
  const [x, y] = [row.metrics[view.x], row.metrics[view.y]], predicted = view.device.byIndex.get(row.index);
  if (x === null || y === null || !plane.x.reaches(x) || !plane.y.reaches(y)) return "";
  const known = predicted && predicted.metrics[view.x] !== null && predicted.metrics[view.y] !== null;
  const line = known ? `<path class="off" d="M${plane.px(x)} ${plane.py(y)}L${plane.px(predicted.metrics[view.x])} ${plane.py(predicted.metrics[view.y])}"/>` : "";
  return `${line}<path class="diamond" data-point="${row.index}" data-tip="${escaped(`point ${row.index}, measured: ${study.metrics[view.y].name} ${amount(y, study.metrics[view.y].unit)}`)}" d="M${plane.px(x)} ${plane.py(y)}m0 -6l5 6l-5 6l-5 -6Z"/>`;
}

function scatter(view, width) {
  const height = Math.round(Math.min(520, Math.max(340, 0.6 * width))), { device } = view;
  const names = [view.x, view.y].map((m) => study.metrics[m].name);
  const rows = device.points.concat(device.front, ...device.measured.values());
  const scales = names.map((name, i) => makeScale(rows.map((row) => row.metrics[i ? view.y : view.x]), metricUnit(name),
    { also: Object.values(study.summary.budgets[name] || {}), count: i ? 9 : Math.round(width / 90) }));
  const plane = makePlane(width, height, ...scales), chosen = device.byIndex.get(view.chosen);
  const others = device.points.filter((row) => !device.onFront.has(row.index)).map((row) => circle(plane, view, row, "point", 2.6));
  const ring = chosen && chosen.metrics[view.x] !== null && chosen.metrics[view.y] !== null
    ? `<circle class="ring" cx="${plane.px(chosen.metrics[view.x])}" cy="${plane.py(chosen.metrics[view.y])}" r="9"/>` : "";
  return svg(width, height, `${names[1]} against ${names[0]} on ${device.name}: ${device.front.length} points of the front`,
    axesOf(plane, names[0], names[1]) + budgetLines(plane, names[0], true) + budgetLines(plane, names[1], false) + others.join("") +
    frontLink(plane, view) + device.front.map((row) => circle(plane, view, row, "front", 4.4)).join("") +
    [...device.measured.values()].map((row) => diamond(plane, view, row)).join("") + ring, 'tabindex="0" data-keys="front"');
}

function dot(style, text, ring = false) {
  return `<li><svg viewBox="0 0 10 10"><circle class="${ring ? "ring" : style}" cx="5" cy="5" r="4"/></svg>${escaped(text)}</li>`;
}

function scatterLegend(view) {
  const { device } = view, many = device.points.length < device.kept ? `, ${device.points.length} of ${whole(device.kept)} shown, evenly by index` : "";
  const items = [dot("front", "on the front: no other point beats it in every objective"), dot("point", `kept: within the budgets${many}`), dot("", "chosen", true)];
  if (view.colour >= 0) {
    const { name, values } = study.summary.axes[view.colour];
    items.splice(0, 2, ...values.map((value, i) => `<li><svg viewBox="0 0 10 10"><circle cx="5" cy="5" r="4" style="fill:${colourOf(i, values.length)}"/></svg>${escaped(`${name} ${value}`)}</li>`));
  }
  if (device.measured.size) items.push(`<li><svg viewBox="0 0 10 10"><path class="diamond" d="M5 0l4.5 5l-4.5 5l-4.5 -5Z"/></svg>measured, with a line to the prediction</li>`);
  return `<ul class="legend">${items.join("")}</ul>`;
}

/* ---- parallel coordinates */

/* Columns: axes with more than one value, each at even places; then the objectives. */
function columnsOf(view) {
  const axes = study.summary.axes.map((axis, i) => ({
    name: axis.name, ticks: axis.values.map((value, v) => [v / (axis.values.length - 1), value]), at: (row) => row.choices[i] / (axis.values.length - 1),
    apart: 1 / (axis.values.length - 1), values: axis.values.length,
  })).filter((column) => column.values > 1);
  const goals = modelledGoals(view.device).map(({ metric }) => {
    const scale = makeScale(view.device.points.concat(view.device.front).map((row) => row.metrics[metric]), study.metrics[metric].unit, { count: 9 });
    return { name: titleWithUnit(study.metrics[metric].name, scale), ticks: scale.ticks.map(([value, text]) => [scale.at(value), text]),
      at: (row) => scale.at(row.metrics[metric]), apart: 0 };
  });
  return axes.concat(goals);
}

/* Ticks that stand apart by 13 units at least. */
function sparse(ticks, length) {
  const every = Math.ceil(13 * ticks.length / length);
  return ticks.filter((_, i) => i % every === 0);
}

function lastObjective(device) {
  return modelledGoals(device).at(-1).metric;
}

/* Rows whose objectives are known, each with its rank by the last objective, from -1 to 1. */
function ranked(device, rows) {
  const goals = modelledGoals(device), last = lastObjective(device);
  const known = rows.filter((row) => goals.every(({ metric }) => row.metrics[metric] !== null));
  known.sort((a, b) => a.metrics[last] - b.metrics[last] || a.index - b.index);
  return known.map((row, i) => [row, known.length > 1 ? 2 * i / (known.length - 1) - 1 : 0]);
}

/* Lines through one value of an axis would lie on each other: they are fanned out by rank, within a fifth of what lies between values. */
function lineThrough(columns, x, y) {
  return ([row, rank]) => "M" + columns.map((column, i) => `${x(i)} ${y(column.at(row) + Math.min(0.045, 0.2 * column.apart) * (column.apart > 0 ? rank : 0))}`).join("L");
}

function columnAxis(column, i, count, plane) {
  const at = +plane.x(i), last = i === count - 1, low = plane.staggered && i % 2 === 1;
  const marks = sparse(column.ticks, plane.length).map(([part, text]) => `<path class="frame" d="M${at} ${plane.y(part)}h${last ? 4 : -4}"/>
<text class="halo" x="${at + (last ? 8 : -8)}" y="${plane.y(part)}" dy=".33em" text-anchor="${last ? "start" : "end"}">${escaped(text)}</text>`);
  return `<path class="frame" d="M${at} ${plane.y(-0.06)}V${plane.y(1.06)}"/>${marks.join("")}<text class="strong" x="${at}" y="${low ? 34 : 18}" text-anchor="${i === 0 ? "start" : last ? "end" : "middle"}"
 dx="${i === 0 ? -30 : last ? 30 : 0}">${escaped(column.name)}</text>`;
}

function parallel(view, width) {
  const height = 410, top = 66, bottom = height - 30, columns = columnsOf(view), side = 60, count = columns.length;
  const step = count > 1 ? (width - 2 * side) / (count - 1) : 0, longest = Math.max(...columns.map((column) => column.name.length));
  const plane = { x: (i) => (count > 1 ? side + i * step : width / 2).toFixed(1), y: (part) => (bottom - part * (bottom - top)).toFixed(1), length: bottom - top,
    staggered: 7.2 * longest > step };
  const line = lineThrough(columns, plane.x, plane.y);
  const paths = ranked(view.device, view.device.front).map((pair) => [pair[0].index === view.chosen,
    `<path class="path${pair[0].index === view.chosen ? " chosen" : ""}" data-point="${pair[0].index}" style="stroke:${ramp((pair[1] + 1) / 2)}" d="${line(pair)}"/>`]);
  paths.sort((a, b) => a[0] - b[0]);
  const others = ranked(view.device, view.device.points.filter((row) => !view.device.onFront.has(row.index))), every = Math.ceil(others.length / 1000);
  return svg(width, height, `Parallel coordinates of the front on ${view.device.name}`,
    `<path class="many" d="${others.filter((_, i) => i % every === 0).map(line).join("")}"/>${paths.map((pair) => pair[1]).join("")}<g class="columns">${columns.map((column, i) => columnAxis(column, i, count, plane)).join("")}</g>`);
}

/* ---- which axes matter */

/* The share of an objective's variance among points that lies between the values of an axis. */
function shareOf(groups) {
  const all = groups.flat(), mean = average(all);
  const total = sum(all.map((value) => (value - mean) ** 2));
  return total > 0 ? sum(groups.map((group) => (group.length ? group.length * (average(group) - mean) ** 2 : 0))) / total : 0;
}

function sum(values) {
  return values.reduce((a, b) => a + b, 0);
}

function average(values) {
  return values.length ? sum(values) / values.length : 0;
}

function boxOf(plane, group, x, half) {
  const sorted = [...group].sort((a, b) => a - b), [least, low, middle, high, most] = [0, 0.25, 0.5, 0.75, 1].map((part) => plane.py(quantile(sorted, part)));
  return `<path class="whisker" d="M${x} ${least}V${low}M${x} ${high}V${most}M${x - half / 2} ${least}h${half}M${x - half / 2} ${most}h${half}"/>
<rect class="box" x="${x - half}" y="${high}" width="${2 * half}" height="${Math.max(1, low - high)}"/><path class="median" d="M${x - half} ${middle}h${2 * half}"/>`;
}

/* Values of an axis that share a box, so that there are at most 24. */
function neighbours(axis) {
  return Math.ceil(axis.values.length / 24);
}

/* A metric of points, by the values of axis number `a`. */
function groupsOf(rows, axis, a, metric) {
  const per = neighbours(axis), groups = Array.from({ length: Math.ceil(axis.values.length / per) }, () => []);
  for (const row of rows) if (row.metrics[metric] !== null) groups[Math.floor(row.choices[a] / per)].push(row.metrics[metric]);
  return groups;
}

function boxes(axis, groups, scale, metric, width) {
  const height = 168, plane = makePlane(width, height, { at: () => 0, ticks: [] }, scale, { left: 44, right: 4, top: 8, bottom: 24 });
  const each = (plane.right - plane.left) / groups.length, half = Math.min(12, each / 3.2);
  const shown = Math.ceil(groups.length / Math.max(1, Math.floor((plane.right - plane.left) / 34))), per = neighbours(axis);
  const ticks = scale.ticks.map(([value, text]) => `<path class="grid" d="M${plane.left} ${plane.py(value)}H${plane.right}"/>
<text x="${plane.left - 6}" y="${plane.py(value)}" dy=".33em" text-anchor="end">${text}</text>`);
  const drawn = groups.map((group, v) => {
    const x = plane.left + (v + 0.5) * each, label = v % shown ? "" : `<text x="${x}" y="${plane.bottom + 15}" text-anchor="middle">${escaped(axis.values[v * per])}${per > 1 ? "…" : ""}</text>`;
    return label + (group.length ? boxOf(plane, group, x, half) : `<text x="${x}" y="${(plane.top + plane.bottom) / 2}" text-anchor="middle">–</text>`);
  });
  return svg(width, height, `${metric.name} by ${axis.name}`, `${ticks.join("")}<path class="frame" d="M${plane.left} ${plane.top}V${plane.bottom}H${plane.right}"/>${drawn.join("")}`);
}

function spread(view) {
  const rows = view.device.points, goals = modelledGoals(view.device).map(({ metric }) => metric);
  const scales = goals.map((m) => makeScale(rows.map((row) => row.metrics[m]), study.metrics[m].unit, { count: 5 }));
  const axes = study.summary.axes.map((axis, a) => {
    const groups = goals.map((m) => groupsOf(rows, axis, a, m));
    return { axis, groups, shares: groups.map(shareOf) };
  }).filter(({ axis }) => axis.values.length > 1);
  axes.sort((a, b) => sum(b.shares) - sum(a.shares));
  return `<div class="groups">${axes.map(({ axis, groups, shares }) => `<div class="keep"><h3>${escaped(axis.name)}</h3><div class="charts">${goals.map((m, g) =>
    `<div>${escaped(titleWithUnit(study.metrics[m].name, scales[g]))}<br><span class="soft"><span class="share"><i style="width:${(100 * shares[g]).toFixed(0)}%"></i></span>
${(100 * shares[g]).toFixed(0)} % of variance</span>${boxes(axis, groups[g], scales[g], study.metrics[m], 250)}</div>`).join("")}</div></div>`).join("")}</div>`;
}

/* ---- the roofline */

/* WORK of report_data.h as an object, with what the device allows. */
function workOf([kind, phases, flops, exps, memory, moved, seconds], device) {
  const reading = memory / (1e9 * device.read_gb_s) + moved / (1e9 * device.cache_gb_s);
  const arithmetic = flops / (1e9 * device.panel_gflop_s) + exps / (1e9 * device.exp_g_s);
  const limit = Math.max(reading, arithmetic) < seconds / 2 ? "fixed part, waiting" : reading >= arithmetic ? (moved > 4 * memory ? "moving activations" : "reading")
    : exps / device.exp_g_s > flops / device.panel_gflop_s ? "exp" : "multiply-adds";
  return { kind, phases, flops, exps, memory, moved, seconds, limit, intensity: flops / (memory + moved), rate: flops / seconds };
}

const STEPS = [["decode", "a decoded token"], ["prefill", "the prompt"]];

function roofs(plane, device) {
  const peak = 1e9 * device.panel_gflop_s, left = plane.x.low, right = plane.x.high, parts = [];
  for (const [rate, second] of [[device.read_gb_s, ""], [device.cache_gb_s, " second"]]) {
    const knee = Math.min(right, peak / (1e9 * rate)), from = Math.max(left, plane.y.low / (1e9 * rate));
    if (knee <= from) continue;
    parts.push(`<path class="roof${second}" d="M${plane.px(from)} ${plane.py(1e9 * rate * from)}L${plane.px(knee)} ${plane.py(1e9 * rate * knee)}"/>`);
    if (second) continue; /* its rate stands in the legend */
    const at = from * Math.pow(knee / from, 0.35), slope = -180 / Math.PI * Math.atan2(plane.py(1e9 * rate * from) - plane.py(1e9 * rate * knee), plane.px(knee) - plane.px(from));
    parts.push(`<text class="strong halo" transform="translate(${plane.px(at)} ${plane.py(1e9 * rate * at)}) rotate(${slope.toFixed(1)})" dy="1.2em" text-anchor="middle">memory ${digits(rate, 3)} GB/s</text>`);
  }
  const start = Math.max(left, peak / (1e9 * Math.max(device.cache_gb_s, device.read_gb_s)));
  parts.push(`<path class="roof" d="M${plane.px(start)} ${plane.py(peak)}H${plane.right}"/><text class="strong halo" x="${(+plane.px(start) + plane.right) / 2}" y="${plane.py(peak) - 8}" text-anchor="middle">multiply-adds ${digits(device.panel_gflop_s, 3)} GFLOP/s</text>`);
  return parts.join("");
}

function rooflineMark(plane, step, work, whole) {
  const x = +plane.px(work.intensity), y = +plane.py(work.rate), share = work.seconds / whole, r = 4 + 14 * Math.sqrt(share);
  const tip = `${work.kind} of ${step[1]}: ${digits(100 * share, 3)} % of the step`;
  const shape = step[0] === "decode" ? `<circle class="decode" cx="${x}" cy="${y}" r="${r.toFixed(1)}" data-tip="${escaped(tip)}"/>`
    : `<rect class="prefill" x="${(x - 0.85 * r).toFixed(1)}" y="${(y - 0.85 * r).toFixed(1)}" width="${(1.7 * r).toFixed(1)}" height="${(1.7 * r).toFixed(1)}" data-tip="${escaped(tip)}"/>`;
  const end = x > plane.right - 90;
  return shape + (share < 0.03 ? "" : `<text class="halo" x="${end ? x - r - 4 : x + r + 4}" y="${y + (end ? 0.6 * r : 0)}" dy="${end ? ".7em" : ".33em"}" text-anchor="${end ? "end" : "start"}">${work.kind}</text>`);
}

function roofline(view, width) {
  const device = view.device, given = device.work[view.chosen];
  const height = Math.round(Math.min(460, Math.max(320, 0.66 * width)));
  const steps = STEPS.map((step) => ({ step, works: given[step[0]].map((row) => workOf(row, device)).filter((work) => work.flops > 0 && work.memory + work.moved > 0) }));
  const works = steps.flatMap(({ works: of }) => of), peak = 1e9 * device.panel_gflop_s;
  const x = makeScale(works.map((work) => work.intensity).concat([peak / (1e9 * device.read_gb_s)]), "", { log: true, count: 8 });
  const y = makeScale(works.map((work) => work.rate).concat([peak, 0.5 * peak]), "", { log: true });
  const plane = makePlane(width, height, x, y, { top: 26 });
  const marks = steps.map(({ step, works: of }) => {
    const whole = sum(given[step[0]].map((row) => row[6]));
    return [...of].sort((a, b) => b.seconds - a.seconds).map((work) => rooflineMark(plane, step, work, whole)).join("");
  });
  return svg(width, height, `Roofline of point ${view.chosen} on ${device.name}`, axesOf(plane, "FLOPs a byte", "FLOP/s") + roofs(plane, device) + marks.reverse().join(""));
}

function workTable(view, [name, words]) {
  const rows = view.device.work[view.chosen][name].map((row) => workOf(row, view.device)).sort((a, b) => b.seconds - a.seconds), whole = sum(rows.map((row) => row.seconds));
  if (rows.length === 0) return "";
  const cells = rows.map((row) => `<tr><td class="text">${row.kind}</td><td>${row.phases}</td><td>${amount(row.flops, "", 3)}</td><td>${row.exps ? amount(row.exps, "", 3) : "–"}</td>
<td>${row.memory ? amount(row.memory, "bytes", 3) : "–"}</td><td>${amount(row.moved, "bytes", 3)}</td><td>${row.flops ? digits(row.intensity, 3) : "–"}</td><td>${digits(1e3 * row.seconds, 4)}</td>
<td>${(100 * row.seconds / whole).toFixed(1)}</td><td class="text">${row.limit}</td></tr>`);
  return `<div class="keep"><h4>${words[0].toUpperCase() + words.slice(1)}: ${amount(1e3 * whole, "ms")} ${badge(view.device.fidelity)}</h4><div class="wide"><table><thead><tr><th class="text">kernels</th><th>phases</th><th>FLOPs</th><th>exps</th><th>weights,<br>states</th>
<th>activations</th><th>FLOPs<br>a byte</th><th>ms</th><th>%</th><th class="text">limit</th></tr></thead><tbody>${cells.join("")}</tbody></table></div></div>`;
}

/* ---- calibration */

function calibrationFigure(metric, points, width) {
  const height = Math.round(Math.min(420, 0.8 * width)), values = points.flatMap((point) => [point.measured, point.modelled, point.calibrated]).filter((value) => Number.isFinite(value));
  const scale = makeScale(values, metricUnit(metric), {}), plane = makePlane(width, height, scale, scale), [a, b] = [scale.low, scale.high];
  const band = (part) => `<path class="roof second" d="M${plane.px(a)} ${plane.py(Math.max(a, a * part))}L${plane.px(Math.min(b, b / part))} ${plane.py(Math.min(b, b * part))}"/>`;
  const mark = (point, value, style) => Number.isFinite(value) ? `<circle class="${style}${point.held_out ? " held" : ""}" cx="${plane.px(point.measured)}" cy="${plane.py(value)}" r="4" data-tip="${escaped(`point ${point.index}: measured ${digits(point.measured, 4)}, ${style === "raw" ? "modelled" : "calibrated"} ${digits(value, 4)}`)}"/>` : "";
  return svg(width, height, `${metric}: predicted against measured`, axesOf(plane, `${metric} measured`, `${metric} predicted`) +
    `<path class="roof" d="M${plane.px(a)} ${plane.py(a)}L${plane.px(b)} ${plane.py(b)}"/>${band(1.1)}${points.map((point) => mark(point, point.modelled, "raw") + mark(point, point.calibrated, "fitted")).join("")}`);
}

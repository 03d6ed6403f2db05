/* Numbers as text, scales with ticks at round numbers, and the frame of a figure. Figures are texts of SVG. */

function escaped(text) {
  return String(text).replace(/[&<>"']/g, (c) => "&#" + c.charCodeAt(0) + ";");
}

/* ---- numbers */

/* With so many significant digits, without zeros behind the point that say nothing. */
function digits(value, n) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e7 || size < 1e-4) return value.toExponential(n - 1).replace(/\.?0+e/, "e").replace("e+", "e");
  const places = Math.max(0, n - 1 - Math.floor(Math.log10(size)));
  const text = value.toFixed(Math.min(places, 12));
  return places > 0 ? text.replace(/\.?0+$/, "") : text;
}

const BYTES = [[1024 ** 4, "TiB"], [1024 ** 3, "GiB"], [1024 ** 2, "MiB"], [1024, "KiB"], [1, "B"]];
const COUNTS = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""]];

/* [divisor, unit] in which a value of this unit is written. */
function unitOf(value, unit) {
  const rows = unit === "bytes" ? BYTES : unit === "" ? COUNTS : [[1, unit]];
  return rows.find((row) => Math.abs(value) >= row[0]) || rows[rows.length - 1];
}

function amount(value, unit, n = 4) {
  if (value === null || value === undefined) return "–";
  const [divisor, word] = unitOf(value, unit);
  return digits(value / divisor, n) + (word ? "\u00a0" + word : "");
}

/* A whole number with spaces between its thousands. */
function whole(value) {
  return String(value).replace(/\B(?=(\d{3})+(?!\d))/g, "\u202f");
}

/* ---- scales */

function roundStep(raw) {
  const power = 10 ** Math.floor(Math.log10(raw)), part = raw / power;
  return (part <= 1 ? 1 : part <= 2 ? 2 : part <= 2.5 ? 2.5 : part <= 5 ? 5 : 10) * power;
}

function linearTicks(low, high, count) {
  const step = roundStep((high - low) / count), ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) ticks.push(i * step);
  return ticks;
}

function logTicks(low, high, count) {
  const first = Math.floor(Math.log10(low)), last = Math.ceil(Math.log10(high));
  for (const parts of [[1, 2, 3, 5, 7], [1, 2, 5], [1, 3], [1]]) {
    const ticks = [];
    for (let power = first; power <= last; power++) for (const part of parts) ticks.push(part * 10 ** power);
    const inside = ticks.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
    if (inside.length <= count + 2 || parts.length === 1) {
      const every = Math.ceil(inside.length / (count + 2));
      return inside.filter((_, i) => i % every === 0);
    }
  }
  return [];
}

/* A scale over values: {at(value) -> 0…1, ticks: [[value, text]], unit, log}. Logarithmic where the largest is more than 20 times the
 * smallest. `also`: values that the scale should reach if that leaves the others room; reaches(value) tells. */
function makeScale(values, unit, { count = 6, also = [], log } = {}) {
  const known = values.filter((value) => value !== null && Number.isFinite(value));
  let [low, high] = known.length ? minmax(known) : [0, 1];
  const logarithmic = log !== undefined ? log : low > 0 && high / low > 20;
  const to = logarithmic ? Math.log10 : (value) => value, from = logarithmic ? (value) => 10 ** value : (value) => value;
  let a = to(low), b = to(high);
  if (a === b) [a, b] = logarithmic ? [a - 0.3, b + 0.3] : [a - (Math.abs(a) / 10 || 1), b + (Math.abs(b) / 10 || 1)];
  const span = b - a;
  for (const value of also) {
    if (logarithmic && value <= 0) continue;
    if (to(value) - a <= 1.7 * span && b - to(value) <= 1.7 * span) [a, b] = [Math.min(a, to(value)), Math.max(b, to(value))];
  }
  const pad = 0.04 * (b - a);
  [a, b] = [!logarithmic && a >= 0 ? Math.max(0, a - pad) : a - pad, b + pad];
  [low, high] = [from(a), from(b)];
  const [divisor, word] = unitOf(high, unit);
  const ticks = (logarithmic ? logTicks : linearTicks)(low / divisor, high / divisor, count);
  return {
    at: (value) => (to(value) - a) / (b - a),
    reaches: (value) => value >= low && value <= high,
    ticks: ticks.map((tick) => [tick * divisor, digits(tick, 3)]),
    unit: word, log: logarithmic, low, high,
  };
}

function minmax(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}

/* The part of a sorted list below it. */
function quantile(sorted, part) {
  const place = part * (sorted.length - 1), below = Math.floor(place);
  return sorted[below] + (place - below) * ((sorted[below + 1] ?? sorted[below]) - sorted[below]);
}

/* ---- figures */

/* The plane of a figure: where its scales lie, in units of the SVG. */
function makePlane(width, height, x, y, { left = 62, right = 16, top = 14, bottom = 44 } = {}) {
  return {
    width, height, left, top, right: width - right, bottom: height - bottom, x, y,
    px: (value) => (left + x.at(value) * (width - right - left)).toFixed(1),
    py: (value) => (height - bottom - y.at(value) * (height - bottom - top)).toFixed(1),
  };
}

function titleWithUnit(name, scale) {
  return name + (scale.unit ? `, ${scale.unit}` : "") + (scale.log ? " (logarithmic)" : "");
}

/* The grid, the axes and their titles. */
function axesOf(plane, xName, yName) {
  const { x, y, left, right, top, bottom } = plane, parts = [];
  for (const [value, text] of x.ticks) {
    const at = plane.px(value);
    parts.push(`<path class="grid" d="M${at} ${top}V${bottom}"/><text x="${at}" y="${bottom + 16}" text-anchor="middle">${text}</text>`);
  }
  for (const [value, text] of y.ticks) {
    const at = plane.py(value);
    parts.push(`<path class="grid" d="M${left} ${at}H${right}"/><text x="${left - 7}" y="${at}" dy=".33em" text-anchor="end">${text}</text>`);
  }
  const middle = (top + bottom) / 2;
  return `${parts.join("")}<path class="frame" d="M${left} ${top}V${bottom}H${right}"/>
<text class="title" x="${(left + right) / 2}" y="${bottom + 36}" text-anchor="middle">${escaped(titleWithUnit(xName, x))}</text>
<text class="title" transform="translate(14 ${middle}) rotate(-90)" text-anchor="middle">${escaped(titleWithUnit(yName, y))}</text>`;
}

function svg(width, height, label, content, more = "") {
  return `<svg class="plot" viewBox="0 0 ${width} ${height}" style="max-width:${width}px" role="img" aria-label="${escaped(label)}" ${more}>${content}</svg>`;
}

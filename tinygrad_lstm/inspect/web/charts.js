// Charts of curves over the steps, and pictures of many units over time.

const STROKES = ["#0b5cad", "#c4511b", "#3d7a3f", "#7b4a9e"];
const STROKES_ON_DARK = ["#7db8f5", "#f2a36b", "#86c98a", "#c6a0e0"];
const DASHES = ["", "7 4", "2 3", "9 3 2 3"];
const CHART = { height: 210, left: 58, right: 8, top: 10, bottom: 24 };
const POWERS_OF_TEN = 24; // the most that a logarithmic chart shows

const strokeOf = (k) => ({
  fill: "none", stroke: (isDark() ? STROKES_ON_DARK : STROKES)[k], "stroke-dasharray": DASHES[k],
});

/** Round numbers between two, about five of them. */
function ticksBetween(low, high) {
  const rough = (high - low) / 5 || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * power).find((size) => size >= rough);
  const ticks = [];
  for (let value = Math.ceil(low / step) * step; value <= high + 1e-9 * step; value += step) ticks.push(value);
  return ticks;
}

/** Powers of ten between two logarithms, at most seven; if there are hardly any, the two logarithms. */
function powersBetween(low, high) {
  const [from, to] = [Math.ceil(low), Math.floor(high)];
  const every = Math.max(1, Math.ceil((to - from + 1) / 7));
  const ticks = [];
  for (let power = from; power <= to; power += every) ticks.push(power);
  return ticks.length < 2 ? [low, high] : ticks;
}

/** The lowest and highest of the series' values that are numbers; some room if there is none between them. */
function rangeOf(series, logarithmic) {
  let [low, high] = [Infinity, -Infinity];
  for (const { values } of series) {
    for (const value of values) {
      const at = logarithmic ? Math.log10(value) : value;
      if (Number.isFinite(at)) [low, high] = [Math.min(low, at), Math.max(high, at)];
    }
  }
  if (low > high) return [0, 1];
  if (high - low < 1e-12) return [low - 0.5, high + 0.5];
  return [logarithmic ? Math.max(low, high - POWERS_OF_TEN) : low, high];
}

/** Where a chart of a width puts steps and values. */
function coordinates(width, steps, [low, high], logarithmic) {
  const { height, left, right, top, bottom } = CHART;
  const room = width - left - right;
  return {
    x: (t) => left + (steps < 2 ? 0 : (t / (steps - 1)) * room),
    y: (at) => top + ((high - at) / (high - low)) * (height - top - bottom),
    at: (value) => (logarithmic ? Math.log10(value) : value),
    isInside: (at) => Number.isFinite(at) && at >= low - 1e-9,
    stepAt: (x) => clamped(Math.round(((x - left) / room) * (steps - 1)), steps),
  };
}

/** The lines and numbers on the left, and the numbers of steps below. */
function axes(width, steps, range, logarithmic, { x, y }) {
  const { height, left, right } = CHART;
  const written = (tick) => {
    if (!logarithmic) return typeset(String(Number(tick.toPrecision(6))));
    return Number.isInteger(tick) ? `10${raised(tick)}` : scientific(10 ** tick, 1);
  };
  const ticks = logarithmic ? powersBetween(...range) : ticksBetween(...range);
  const lines = ticks.flatMap((tick) => [
    svg("line", { class: "axis", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }),
    svg("text", { x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, written(tick)),
  ]);
  const numbers = ticksBetween(stepName(0), stepName(Math.max(steps - 1, 1))).filter(Number.isInteger);
  const below = numbers.map((number) => svg("text", {
    x: x(number - stepName(0)), y: height - 6, "text-anchor": "middle",
  }, String(number)));
  return [...lines, ...below];
}

/** A curve's path, interrupted at NaNs. */
function pathOf(values, steps, { x, y, at, isInside }) {
  let path = "";
  let pen = "M";
  for (let t = 0; t < steps; t++) {
    const place = at(values[t]);
    if (isInside(place)) path += `${pen}${x(t).toFixed(1)} ${y(place).toFixed(1)}`;
    pen = isInside(place) ? "L" : "M";
  }
  return path;
}

/** The curves' names and readings, and what can be done with them. */
function chartCaption(series, steps, file) {
  const readings = series.map(() => element("span"));
  const entries = series.map(({ name }, k) => {
    const line = svg("path", { d: "M0 4 H32", "stroke-width": 3, ...strokeOf(k) });
    const sample = svg("svg", { viewBox: "0 0 32 8", height: 8, "aria-hidden": "true" }, line);
    return element("span", {}, sample, ` ${name} `, readings[k]);
  });
  const save = element("button", { textContent: "CSV", title: "Download these curves as a table" });
  save.addEventListener("click", () => download(file, tableOf(series, steps, ",")));
  const copy = element("button", { textContent: "Copy", title: "Copy these curves as a table" });
  copy.addEventListener("click", () => copyText(tableOf(series, steps, "\t"), copy));
  const caption = element("div", { className: "caption" }, ...entries, save, copy, element("span", { role: "status" }));
  return { caption, readings };
}

/** Curves over the steps; a click goes to a step. Returns a function that moves the cursor. */
function lineChart(place, { series, steps, logarithmic = false, label, file, pick }) {
  const width = Math.max(280, place.clientWidth || 640);
  const { height, top, bottom } = CHART;
  const range = rangeOf(series, logarithmic);
  const map = coordinates(width, steps, range, logarithmic);
  const names = series.map(({ name }) => name).join("; ");
  const named = { role: "img", "aria-label": `${label}: ${names}` };
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, ...named });
  root.append(...axes(width, steps, range, logarithmic, map));
  series.forEach(({ values }, k) => {
    root.append(svg("path", { d: pathOf(values, steps, map), "stroke-width": 2, ...strokeOf(k) }));
  });
  const cursor = svg("line", { class: "cursor", y1: top, y2: height - bottom });
  root.append(cursor);
  root.addEventListener("click", (event) => {
    const box = root.getBoundingClientRect();
    pick(map.stepAt(((event.clientX - box.left) / box.width) * width));
  });
  const { caption, readings } = chartCaption(series, steps, file);
  place.className = "chart";
  place.replaceChildren(root, caption);
  return (t) => {
    cursor.setAttribute("x1", map.x(t));
    cursor.setAttribute("x2", map.x(t));
    readings.forEach((reading, k) => { reading.textContent = precise(series[k].values[t]); });
  };
}

const WIDEST = 8192; // pictures that every browser can draw
const CHEQUERS = [[0, 0, 0], [255, 255, 255]]; // for NaN

/** A quantity of several units over all steps as a picture: a row for each unit, a column for each step or few. */
function picture(run, name, units) {
  const every = Math.ceil(run.steps / WIDEST);
  const width = Math.ceil(run.steps / every);
  const image = new ImageData(width, units.length);
  const quantity = run.quantity(name);
  units.forEach((u, row) => {
    const scale = scaleOf(run, name, u);
    for (let column = 0; column < width; column++) {
      const value = quantity.at(column * every, u);
      const [r, g, b] = Number.isNaN(value) ? CHEQUERS[(row + column) % 2] : colourAt(scale, scale.place(value));
      const at = 4 * (row * width + column);
      image.data[at] = r;
      image.data[at + 1] = g;
      image.data[at + 2] = b;
      image.data[at + 3] = 255;
    }
  });
  const canvas = element("canvas", { width, height: units.length });
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

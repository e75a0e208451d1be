// Charts of curves over the steps, and the map of all units.

const STROKES = ["#0b5cad", "#c4511b", "#3d7a3f", "#7b4a9e"];
const STROKES_ON_DARK = ["#7db8f5", "#f2a36b", "#86c98a", "#c6a0e0"];
const DASHES = ["", "7 4", "2 3", "9 3 2 3"];

function ticksOf(low, high, logarithmic) {
  if (logarithmic) {
    const [from, to] = [Math.ceil(low), Math.floor(high)];
    const every = Math.max(1, Math.ceil((to - from + 1) / 7));
    return Array.from({ length: Math.max(0, Math.floor((to - from) / every) + 1) }, (_, k) => from + k * every);
  }
  const rough = (high - low) / 5 || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * power).find((size) => size >= rough);
  const ticks = [];
  for (let value = Math.ceil(low / step) * step; value <= high + 1e-9 * step; value += step) ticks.push(value);
  return ticks;
}

function download(name, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

/** Numbers as the spreadsheet programs of all countries read them. */
function csvOf(series, steps) {
  const rows = [["step", ...series.map(({ name }) => `"${name.replaceAll('"', '""')}"`)].join(",")];
  for (let t = 0; t < steps; t++) rows.push([stepName(t), ...series.map(({ values }) => (Number.isNaN(values[t]) ? "" : values[t]))].join(","));
  return `${rows.join("\n")}\n`;
}

/** Curves over the steps; a click goes to a step. Gives a function that moves the cursor. */
function lineChart(place, { series, steps, logarithmic = false, label, file, pick }) {
  const width = Math.max(280, place.clientWidth || 640);
  const height = 210;
  const [left, right, top, bottom] = [58, 8, 10, 24];
  const strokes = isDark() ? STROKES_ON_DARK : STROKES;
  const scaled = (value) => (logarithmic ? Math.log10(value) : value);
  let low = Infinity;
  let high = -Infinity;
  for (const { values } of series) {
    for (const value of values) {
      const at = scaled(value);
      if (Number.isFinite(at)) { low = Math.min(low, at); high = Math.max(high, at); }
    }
  }
  if (low > high) [low, high] = [0, 1];
  if (high - low < 1e-12) [low, high] = [low - 0.5, high + 0.5];
  if (logarithmic) low = Math.max(low, high - 24);
  const x = (t) => left + (steps < 2 ? 0 : (t / (steps - 1)) * (width - left - right));
  const y = (at) => top + ((high - at) / (high - low)) * (height - top - bottom);
  const names = series.map(({ name }) => name).join("; ");
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": `${label}: ${names}` });
  for (const tick of ticksOf(low, high, logarithmic)) {
    root.append(svg("line", { class: "axis", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }));
    const text = logarithmic ? `10${raised(tick)}` : String(Number(tick.toPrecision(3))).replace("-", "−");
    root.append(svg("text", { x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, text));
  }
  for (const tick of ticksOf(0, Math.max(steps - 1, 1), false).filter(Number.isInteger)) {
    root.append(svg("text", { x: x(tick), y: height - 6, "text-anchor": "middle" }, String(stepName(tick))));
  }
  series.forEach(({ values }, k) => {
    let path = "";
    let pen = "M";
    for (let t = 0; t < steps; t++) {
      const at = scaled(values[t]);
      if (!Number.isFinite(at) || at < low - 1e-9) { pen = "M"; continue; }
      path += `${pen}${x(t).toFixed(1)} ${y(at).toFixed(1)}`;
      pen = "L";
    }
    root.append(svg("path", { d: path, fill: "none", stroke: strokes[k], "stroke-width": 2, "stroke-dasharray": DASHES[k] }));
  });
  const cursor = svg("line", { class: "cursor", y1: top, y2: height - bottom });
  root.append(cursor);
  root.addEventListener("click", (event) => {
    const box = root.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * width;
    pick(Math.max(0, Math.min(steps - 1, Math.round(((at - left) / (width - left - right)) * (steps - 1)))));
  });

  const caption = document.createElement("div");
  caption.className = "caption";
  const readings = series.map(({ name }, k) => {
    const entry = document.createElement("span");
    const sample = svg("svg", { viewBox: "0 0 32 8", height: 8, "aria-hidden": "true" }, svg("path", { d: "M0 4 H32", stroke: strokes[k], "stroke-width": 3, "stroke-dasharray": DASHES[k] }));
    const reading = document.createElement("span");
    entry.append(sample, ` ${name} `, reading);
    caption.append(entry);
    return reading;
  });
  const save = document.createElement("button");
  save.textContent = "CSV";
  save.title = "Download these curves as a table";
  save.addEventListener("click", () => download(file, csvOf(series, steps)));
  const copy = document.createElement("button");
  copy.textContent = "Copy";
  copy.title = "Copy these curves as a table";
  copy.addEventListener("click", () => copyText(csvOf(series, steps).replaceAll(",", "\t")));
  caption.append(save, copy);
  place.className = "chart";
  place.replaceChildren(root, caption);
  return (t) => {
    cursor.setAttribute("x1", x(t));
    cursor.setAttribute("x2", x(t));
    readings.forEach((reading, k) => { reading.textContent = shown(series[k].values[t], 4); });
  };
}

const WIDEST = 8192; // pictures that every browser can draw

/** A quantity of several units over all steps as a picture: a row for each unit, a column for each step or few. */
function picture(run, name, units) {
  const every = Math.ceil(run.steps / WIDEST);
  const width = Math.ceil(run.steps / every);
  const image = new ImageData(width, units.length);
  const quantity = run.quantity(name);
  units.forEach((u, row) => {
    const scale = scaleOf(run, name, u);
    for (let column = 0; column < width; column++) {
      const k = indexOf(scale.place(quantity.at(column * every, u)));
      const at = 4 * (row * width + column);
      image.data[at] = scale.colours[k];
      image.data[at + 1] = scale.colours[k + 1];
      image.data[at + 2] = scale.colours[k + 2];
      image.data[at + 3] = 255;
    }
  });
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = units.length;
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

// The page: what is chosen, and what shows it.

const byId = (id) => document.getElementById(id);
const chosen = { layer: 0, item: 0, unit: 0, step: 0, quantity: "", measure: "", flowOf: "all", stage: null, moreUnits: 12 };
let run;
let tokens;
let drawing;
let order = [];
let moveLossCursor = null;
let moveFlowCursor = null;
let player = null;

/** The number of a step in the whole sequence, of which the page may show a part. */
const stepName = (t) => t + trace.first;
const unitName = (u) => trace.layers[chosen.layer].units[u];

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    byId("copied").textContent = "copied";
  } catch {
    const area = document.createElement("textarea"); // where a page from a file has no clipboard
    area.value = text;
    document.body.append(area);
    area.select();
    byId("copied").textContent = document.execCommand("copy") ? "copied" : "the browser refuses to copy";
    area.remove();
  }
}

function options(select, entries, value) {
  select.replaceChildren(...entries.map(([key, text]) => new Option(text, key, false, String(key) === String(value))));
}

// -- what is shown ------------------------------------------------------------------------------------------------------

function showCell() {
  const hasDrawing = run.kind in DRAWINGS;
  byId("cell-section").hidden = !hasDrawing;
  if (!hasDrawing) return;
  const numbers = numbersAt(run, chosen.step, chosen.unit);
  const equations = EQUATIONS[run.kind](numbers);
  drawing.update(numbers, equations);
  const rows = equations.map(({ id, name, formula, numbers: text, meaning, from }) => {
    const row = document.createElement("div");
    row.className = "stage";
    row.dataset.of = id;
    const line = document.createElement("code");
    const general = document.createElement("span");
    general.className = "formula";
    general.textContent = inOrder(run, formula);
    const put = document.createElement("span");
    put.className = "numbers";
    put.textContent = text;
    line.append(general, "\n  = ", put);
    row.append(line);
    if (chosen.stage === id) {
      const parts = document.createElement("p");
      parts.className = "parts";
      parts.textContent = `${name}: ${meaning}`;
      if (from) {
        const largest = from.map(([of, j, weight, value, part]) => `${of}[${of === "h" ? unitName(j) : j}]: ${shown(weight)} × ${shown(value)} = ${shown(part)}`);
        parts.textContent += `; what counts most: ${largest.join(", ")}`;
      }
      row.append(parts);
    }
    row.addEventListener("pointerenter", () => chooseStage(id));
    return row;
  });
  byId("equations").replaceChildren(...rows);
  markStage();
}

function markStage() {
  drawing?.mark(chosen.stage);
  for (const row of byId("equations").children) row.classList.toggle("chosen", row.dataset.of === chosen.stage);
}

function chooseStage(id) {
  if (chosen.stage === id) return;
  chosen.stage = id;
  showCell();
}

function showText() {
  const quantity = run.quantity(chosen.quantity);
  const scale = scaleOf(run, chosen.quantity, chosen.unit);
  const spans = byId("text").children;
  for (let t = 0; t < run.steps; t++) {
    const value = quantity.at(t, chosen.unit);
    const [background, ink] = paint(scale, value);
    spans[t].style.background = background;
    spans[t].style.color = ink;
    spans[t].title = `step ${stepName(t)}: ${chosen.quantity} = ${shown(value, 4)}`;
  }
  const bar = document.createElement("span");
  bar.className = "bar";
  const stops = [0, 0.25, 0.5, 0.75, 1].map((place) => { const k = indexOf(place); return `rgb(${scale.colours[k]},${scale.colours[k + 1]},${scale.colours[k + 2]})`; });
  bar.style.background = `linear-gradient(to right, ${stops.join(", ")})`;
  byId("legend").replaceChildren(`${chosen.quantity} of unit ${unitName(chosen.unit)}: ${scale.ends[0]}`, bar, scale.ends[1], scale.note ? ` (${scale.note})` : "");
}

function makeText() {
  const isText = Boolean(trace.items[chosen.item].tokens);
  byId("text").classList.toggle("steps", !isText);
  byId("text").replaceChildren(...tokens.map((token, t) => {
    const span = document.createElement("span");
    span.textContent = token === "\n" ? "↵\n" : token;
    span.addEventListener("click", () => go({ step: t }));
    return span;
  }));
}

function showHere() {
  byId("text").querySelector(".here")?.classList.remove("here");
  const span = byId("text").children[chosen.step];
  span.classList.add("here");
  const box = byId("text");
  const [top, bottom] = [span.offsetTop, span.offsetTop + span.offsetHeight];
  if (top < box.scrollTop || bottom > box.scrollTop + box.clientHeight) box.scrollTop = top - box.clientHeight / 2;
  byId("slider").value = chosen.step;
  const token = trace.items[chosen.item].tokens ? ` “${visible(tokens[chosen.step])}”` : "";
  byId("where").textContent = `step ${stepName(chosen.step)} of ${stepName(run.steps - 1)}${token}`;
  byId("slider").setAttribute("aria-valuetext", byId("where").textContent);
}

function showUnits() {
  const name = chosen.quantity;
  byId("units").replaceChildren(...order.slice(0, chosen.moreUnits).map(({ unit, value, note }) => {
    const row = document.createElement("button");
    row.dataset.unit = unit;
    row.setAttribute("aria-pressed", String(unit === chosen.unit));
    const number = document.createElement("span");
    number.textContent = unitName(unit);
    const size = document.createElement("span");
    size.textContent = Number.isNaN(value) ? "" : shown(value, 3);
    const about = document.createElement("small");
    about.textContent = note ?? "";
    row.append(number, size, picture(run, name, [unit]), about);
    row.setAttribute("aria-label", `unit ${unitName(unit)}, ${chosen.measure}: ${size.textContent} ${about.textContent}`);
    row.addEventListener("click", () => go({ unit }));
    return row;
  }));
  byId("more-units").hidden = chosen.moreUnits >= order.length;
}

let mapPicture = null;

/** What is shown of all units, as a table. */
function mapAsCsv() {
  const quantity = run.quantity(chosen.quantity);
  const series = Array.from({ length: run.units }, (_, u) => ({
    name: `${chosen.quantity} of unit ${unitName(u)}`, values: columnOf(quantity, u, run.steps),
  }));
  return csvOf(series, run.steps);
}

function makeMap() {
  const scale = scaleOf(run, chosen.quantity, 0).note === "this unit's range" ? "; each row is coloured by its own unit's range" : "";
  byId("map-hint").textContent = `A row is a unit, in the order chosen above; a column is a step${scale}. Click to go there; arrow keys move.`;
  mapPicture = picture(run, chosen.quantity, order.map(({ unit }) => unit));
}

function showMap() {
  const place = byId("map");
  let canvas = place.querySelector("canvas");
  if (!canvas) {
    canvas = document.createElement("canvas");
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "img");
    canvas.addEventListener("click", (event) => go(placeInMap(canvas, event)));
    canvas.addEventListener("pointermove", (event) => {
      const { step, unit } = placeInMap(canvas, event);
      place.querySelector("p").textContent = readingOf(step, unit);
    });
    place.replaceChildren(canvas, document.createElement("p"));
  }
  const ratio = window.devicePixelRatio || 1;
  const width = Math.max(200, place.clientWidth);
  const height = Math.min(420, Math.max(120, run.units * 6));
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = mapPicture.width > canvas.width || mapPicture.height > canvas.height;
  context.drawImage(mapPicture, 0, 0, canvas.width, canvas.height);
  const row = order.findIndex(({ unit }) => unit === chosen.unit);
  const [w, h] = [canvas.width / run.steps, canvas.height / run.units];
  for (const [colour, thickness] of [["#fff", 4], ["#111", 2]]) { // seen on every colour
    context.strokeStyle = colour;
    context.lineWidth = thickness * ratio;
    context.strokeRect(chosen.step * w, 0, Math.max(w, 1), canvas.height);
    context.strokeRect(0, row * h, canvas.width, Math.max(h, 1));
  }
  const reading = readingOf(chosen.step, chosen.unit);
  canvas.setAttribute("aria-label", `Map of ${chosen.quantity}, ${run.units} units by ${run.steps} steps. ${reading}`);
  place.querySelector("p").textContent = reading;
}

function placeInMap(canvas, event) {
  const box = canvas.getBoundingClientRect();
  const within = (share, size) => Math.max(0, Math.min(size - 1, Math.floor(share * size)));
  const step = within((event.clientX - box.left) / box.width, run.steps);
  return { step, unit: order[within((event.clientY - box.top) / box.height, run.units)].unit };
}

const readingOf = (step, unit) => `step ${stepName(step)}, unit ${unitName(unit)}: ${chosen.quantity} = ${shown(run.quantity(chosen.quantity).at(step, unit), 4)}`;

function showPrediction() {
  const { predictions } = trace.items[chosen.item];
  byId("prediction-section").hidden = !predictions;
  if (!predictions) return;
  const next = predictions.next[chosen.step];
  const rows = predictions.top[chosen.step].flatMap(([token, probability]) => {
    const name = document.createElement("span");
    name.className = token === next ? "token came" : "token";
    name.textContent = visible(token);
    const bar = document.createElement("span");
    bar.className = "bar";
    bar.style.width = `${100 * probability}%`;
    const number = document.createElement("span");
    number.textContent = percentage(probability);
    return [name, bar, number];
  });
  const bars = document.createElement("div");
  bars.className = "bars";
  bars.append(...rows);
  const came = document.createElement("p");
  came.className = "hint";
  const loss = predictions.loss[chosen.step];
  came.textContent = next === null ? "Nothing follows." : `“${visible(next)}” came, to which the model gave ${percentage(Math.exp(-loss))}: a loss of ${shown(loss)} nats.`;
  byId("prediction").replaceChildren(bars, came);
}

const percentage = (share) => `${shown(100 * share, 1)} %`;

function makeLossChart() {
  const { predictions } = trace.items[chosen.item];
  moveLossCursor = null;
  if (!predictions) return;
  const values = predictions.loss.map((loss) => loss ?? NaN);
  moveLossCursor = lineChart(byId("loss-chart"), {
    series: [{ name: "loss by character, nats", values }], steps: run.steps, label: "Loss", file: "loss.csv", pick: (step) => go({ step }),
  });
}

/** ∂L/∂ of the state, and what of it the gates that keep the state carry back by themselves. */
function flowSeries() {
  const of = chosen.flowOf;
  const sizes = (name) => run.kept(`flow ${name} ${of} ${of === "unit" ? chosen.unit : ""}`, () => {
    const gradient = run.gradients[name];
    return Float64Array.from({ length: run.steps }, (_, t) => {
      if (of === "unit") return Math.abs(gradient.at(t, chosen.unit));
      let squares = 0;
      for (let u = 0; u < run.units; u++) squares += gradient.at(t, u) ** 2;
      return Math.sqrt(squares);
    });
  });
  const around = of === "unit" ? ["|", "|"] : ["‖", "‖"];
  const series = Object.keys(run.begun).reverse().map((name) => ({ name: `${around[0]}∂L/∂${name}ₜ${around[1]}`, values: sizes(name) }));
  const [keeps, state] = { LSTM: ["f", "c"], GRU: ["z", "h"] }[run.kind] ?? [];
  if (keeps) {
    const values = run.kept(`alone ${of} ${of === "unit" ? chosen.unit : ""}`, () => carriedAlone(keeps, state, of));
    series.push({ name: `by ∏${keeps} alone, from the last step`, values });
  }
  return series;
}

function carriedAlone(keeps, state, of) {
  const units = of === "unit" ? [chosen.unit] : Array.from({ length: run.units }, (_, u) => u);
  const gate = run.values[keeps];
  const gradient = run.gradients[state];
  let end = run.end; // the last step on which the loss depends
  while (run.has(run.previous(end)) && units.every((u) => gradient.at(end, u) === 0)) end = run.previous(end);
  const carried = units.map((u) => gradient.at(end, u));
  const values = new Float64Array(run.steps);
  for (let t = end; run.has(t); t = run.previous(t)) {
    values[t] = Math.sqrt(carried.reduce((sum, value) => sum + value * value, 0));
    units.forEach((u, k) => { carried[k] *= gate.at(t, u); });
  }
  return values;
}

function makeFlowChart() {
  const has = Object.keys(run.gradients).length > 0;
  byId("flow-section").hidden = !has;
  moveFlowCursor = null;
  if (!has) return;
  moveFlowCursor = lineChart(byId("flow-chart"), {
    series: flowSeries(), steps: run.steps, logarithmic: true, label: "Gradients by step", file: "gradient-flow.csv", pick: (step) => go({ step }),
  });
}

// -- what happens when something else is chosen -------------------------------------------------------------------------

/** Chooses what is named, and shows again what depends on it. */
function go(change, announce = true) {
  const before = { ...chosen };
  Object.assign(chosen, change);
  const changed = (...names) => names.some((name) => before[name] !== chosen[name]);
  const newRun = !run || changed("layer", "item");
  if (newRun) begin();
  chosen.step = Math.max(0, Math.min(run.steps - 1, chosen.step));
  chosen.unit = Math.max(0, Math.min(run.units - 1, chosen.unit));
  const newOrder = newRun || changed("measure");
  if (newOrder) {
    const measures = run.kept("measures", () => measuresFor(run, tokens));
    order = run.kept(`order ${chosen.measure}`, () => sortedUnits(run, measures[chosen.measure]));
    if (!before.measure || newRun) chosen.unit = order[0].unit;
  }
  byId("unit").value = unitName(chosen.unit);
  if (newRun || changed("quantity")) byId("quantity").value = chosen.quantity;
  if (newRun || changed("quantity", "unit")) showText();
  if (newOrder || changed("quantity", "unit", "moreUnits")) showUnits();
  if (newOrder || changed("quantity")) makeMap();
  if (newRun || (chosen.flowOf === "unit" && changed("unit")) || changed("flowOf")) makeFlowChart();
  if (newRun) makeLossChart();
  showCell();
  showHere();
  showMap();
  showPrediction();
  moveLossCursor?.(chosen.step);
  moveFlowCursor?.(chosen.step);
  if (announce && changed("step", "unit")) byId("announced").textContent = `${byId("where").textContent}; ${readingOf(chosen.step, chosen.unit)}`;
}

/** Another layer or sequence is chosen. */
function begin() {
  const layer = trace.layers[chosen.layer];
  run = new Run(layer, chosen.item);
  const written = trace.items[chosen.item].tokens ?? [];
  tokens = Array.from({ length: run.steps }, (_, t) => written[t] ?? String(stepName(t)));
  chosen.stage = null;
  chosen.moreUnits = 12;
  if (run.kind in DRAWINGS) {
    drawing = drawCell(run, chooseStage);
    byId("diagram").replaceChildren(drawing.root);
  }
  const names = run.names;
  if (!names.includes(chosen.quantity)) chosen.quantity = names.includes("c") ? "c" : "h";
  options(byId("quantity"), names.map((name) => [name, name.startsWith("∂") ? `∂L/${name}` : name]), chosen.quantity);
  const measures = Object.keys(run.kept("measures", () => measuresFor(run, tokens)));
  if (!measures.includes(chosen.measure)) chosen.measure = measures[0];
  options(byId("measure"), measures.map((name) => [name, name]), chosen.measure);
  byId("measure-hint").textContent = `Each strip is a unit over time, coloured by what is shown on the sequence; a click chooses it.`;
  byId("slider").max = run.steps - 1;
  byId("unit").max = layer.units.at(-1);
  byId("about").textContent = `${trace.model}: layer ${layer.name}, ${layer.kind} with ${run.units} of ${layer.hidden} units, ${run.steps} steps${layer.reverse ? ", time running from the end" : ""}${trace.loss === null ? "" : `; L = ${shown(trace.loss, 4)}${trace.lossIs ? `, ${trace.lossIs}` : ""}`}`;
  byId("flow-hint").textContent = "Sizes of the loss's gradients with respect to the state at each step, on a logarithmic scale; and what the gates that keep the state would carry back alone. What is above that came through the other gates.";
  makeText();
}

function play(on) {
  clearInterval(player);
  player = null;
  if (on) {
    player = setInterval(() => (chosen.step < run.steps - 1 ? go({ step: chosen.step + 1 }, false) : play(false)), 1000 / Number(byId("speed").value));
  }
  byId("play").textContent = on ? "❚❚" : "▶";
  byId("play").setAttribute("aria-label", on ? "Pause" : "Play");
}

function togglePlay() {
  if (!player && chosen.step === run.steps - 1) go({ step: 0 });
  play(!player);
}

function nextUnit(by) {
  const at = order.findIndex(({ unit }) => unit === chosen.unit);
  go({ unit: order[Math.max(0, Math.min(order.length - 1, at + by))].unit });
}

/** Chooses a unit by its number in the layer. */
function chooseUnit(number) {
  const at = trace.layers[chosen.layer].units.indexOf(number);
  go({ unit: at < 0 ? chosen.unit : at });
}

function numbersAsTable() {
  const numbers = numbersAt(run, chosen.step, chosen.unit);
  const rows = Object.entries(numbers).filter(([name]) => name !== "nets" && !name.endsWith("_next")).map(([name, value]) => `${name.replace("_before", " before").replace("∂", "dL/d")}\t${value}`);
  return [`step\t${stepName(chosen.step)}`, `unit\t${unitName(chosen.unit)}`, ...rows].join("\n");
}

const KEYS = {
  ArrowLeft: () => go({ step: chosen.step - 1 }),
  ArrowRight: () => go({ step: chosen.step + 1 }),
  PageUp: () => go({ step: chosen.step - 10 }),
  PageDown: () => go({ step: chosen.step + 10 }),
  Home: () => go({ step: 0 }),
  End: () => go({ step: run.steps - 1 }),
  ArrowUp: () => nextUnit(-1),
  ArrowDown: () => nextUnit(1),
  " ": togglePlay,
};

document.addEventListener("keydown", (event) => {
  const within = event.target.closest("input, select, textarea");
  if (event.altKey || event.ctrlKey || event.metaKey || within) return;
  if (event.key === " " && event.target.closest("button")) return;
  if (event.key in KEYS) {
    event.preventDefault();
    KEYS[event.key]();
  } else if (run.names.includes(event.key)) {
    go({ quantity: event.key });
  }
});

function setTheme(choice) {
  const dark = choice === "dark" || (choice === "auto" && window.matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  if (!run) return;
  makeMap();
  makeLossChart();
  makeFlowChart();
  showUnits();
  showText();
  go({}, false);
}

byId("layer").addEventListener("change", (event) => go({ layer: Number(event.target.value) }));
byId("item").addEventListener("change", (event) => go({ item: Number(event.target.value) }));
byId("unit").addEventListener("change", (event) => chooseUnit(Number(event.target.value)));
byId("quantity").addEventListener("change", (event) => go({ quantity: event.target.value }));
byId("measure").addEventListener("change", (event) => go({ measure: event.target.value, moreUnits: 12 }));
byId("flow-of").addEventListener("change", (event) => go({ flowOf: event.target.value }));
byId("theme").addEventListener("change", (event) => setTheme(event.target.value));
byId("slider").addEventListener("input", (event) => go({ step: Number(event.target.value) }));
byId("speed").addEventListener("change", () => player && play(true));
byId("first").addEventListener("click", KEYS.Home);
byId("last").addEventListener("click", KEYS.End);
byId("back").addEventListener("click", KEYS.ArrowLeft);
byId("forward").addEventListener("click", KEYS.ArrowRight);
byId("play").addEventListener("click", togglePlay);
byId("map-csv").addEventListener("click", () => download(`${chosen.quantity.replace("∂", "d")}.csv`, mapAsCsv()));
byId("more-units").addEventListener("click", () => go({ moreUnits: chosen.moreUnits + 40 }));
byId("copy-numbers").addEventListener("click", () => copyText(numbersAsTable()));
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => setTheme(byId("theme").value));
let resized = null;
window.addEventListener("resize", () => {
  clearTimeout(resized);
  resized = setTimeout(() => { makeLossChart(); makeFlowChart(); go({}, false); }, 150);
});

setTheme("auto");
options(byId("layer"), trace.layers.map(({ name }, k) => [k, name]), 0);
options(byId("item"), trace.items.map(({ number }, k) => [k, number]), 0);
byId("item").closest("label").hidden = trace.items.length === 1;
byId("precision").textContent = trace.precision;
const asked = new URLSearchParams(location.hash.slice(1)); // page.html#step=12&unit=3 opens there
const askedFor = (name) => Number(asked.get(name)) || 0;
go({
  layer: Math.min(askedFor("layer"), trace.layers.length - 1),
  item: Math.min(askedFor("item"), trace.items.length - 1),
  step: askedFor("step") - trace.first,
});
if (asked.has("unit")) chooseUnit(Number(asked.get("unit")));

// The current choices, and the parts of the page that show them.

const UNITS_SHOWN = 12; // at first
const chosen = {
  layer: 0, item: 0, unit: 0, step: null, quantity: "", measure: "", flowOf: "all", stage: null, unitsShown: UNITS_SHOWN,
};
let run;
let item; // of the batch, if the layer took a step for each of its tokens
let tokens;
let sorted = []; // the units, in the order that is chosen

/** The number of a step in the whole sequence, of which the page may show a part. */
const stepName = (t) => t + trace.first;
const unitName = (u) => run.layer.units[u];
const quantityName = (name) => (name.startsWith("∂") ? `∂L/${name}` : name);

/** The chosen quantity of a unit at a step, in words. */
function readingOf(step, unit) {
  const value = run.quantity(chosen.quantity).at(step, unit);
  return `unit ${unitName(unit)}: ${quantityName(chosen.quantity)} = ${precise(value)}`;
}

const percentage = (share) => (share === null ? "NaN" : `${shown(100 * share, 1)} %`);

// -- the cell ---------------------------------------------------------------------------------------------------------

const WIDE = 960; // pixels, as the drawing of the LSTM; wider drawings are as wide as the page
let drawing = null;
let equations = [];

function makeCell() {
  const has = hasDrawing(run);
  byId("cell-section").hidden = !has;
  drawing = has ? drawCell(run, chooseStage) : null;
  document.querySelector("main").classList.toggle("wide", has && drawing.width > WIDE);
  byId("diagram").replaceChildren(...(has ? [drawing.root] : []));
}

function showCell() {
  if (!drawing) return;
  const numbers = numbersAt(run, chosen.step, chosen.unit);
  equations = equationsOf(run, numbers);
  drawing.update(numbers, equations);
  byId("stages").replaceChildren(...equations.map(({ id, formula, numbers: text }) => {
    const general = element("span", { className: "formula", textContent: formula });
    const put = element("span", { className: "numbers", textContent: text });
    const row = element("div", { className: "stage", "data-of": id }, element("code", {}, general, ...withNumbers(text, put)));
    row.addEventListener("pointerenter", () => chooseStage(id));
    return row;
  }));
  showStage();
}

/** What follows an equation; the numbers of a program's equation begin with a name. */
const withNumbers = (text, put) => (text ? [run.kind ? "\n  = " : "\n  ", put] : []);

/** Marks the chosen stage, and shows its meaning. */
function showStage() {
  drawing.mark(chosen.stage);
  for (const row of byId("stages").children) row.classList.toggle("chosen", row.dataset.of === chosen.stage);
  const stage = equations.find(({ id }) => id === chosen.stage);
  byId("meaning").textContent = stage
    ? meaningOf(stage)
    : "Point at a part of the drawing or an equation, or go to a part with Tab, to see its meaning here.";
}

function meaningOf({ name, meaning, largest }) {
  if (!largest) return meaning ? `${name}: ${meaning}` : name;
  const products = largest.map(({ of, j, weight, value, product }) => {
    const source = `${of}[${of === "h" ? unitName(j) : run.layer.inputNames[j] ?? j}]`;
    return `${source}: ${shown(weight)} × ${shown(value)} = ${shown(product)}`;
  });
  return `${name}: ${meaning}; largest products: ${products.join(", ")}`;
}

function chooseStage(id) {
  if (chosen.stage === id) return;
  chosen.stage = id;
  showStage();
}

/** The cell's numbers, as two columns. */
function numbersAsTable() {
  const { nets, next, ...numbers } = numbersAt(run, chosen.step, chosen.unit);
  const rows = Object.entries(numbers).map(([name, value]) => {
    return `${name.replace("_before", " before").replace("∂", "dL/d")}\t${value}`;
  });
  return [`step\t${stepName(chosen.step)}`, `unit\t${unitName(chosen.unit)}`, ...rows].join("\n");
}

// -- the sequence -----------------------------------------------------------------------------------------------------

function makeText() {
  byId("text").classList.toggle("steps", !item.tokens);
  byId("text").replaceChildren(...tokens.map((token) => (
    flows(token)
      ? element("span", { textContent: inText(token) })
      : element("span", { textContent: visible(token), className: "apart" })
  )));
}

function showText() {
  const quantity = run.quantity(chosen.quantity);
  const scale = scaleOf(run, chosen.quantity, chosen.unit);
  const spans = byId("text").children;
  for (let t = 0; t < run.steps; t++) {
    const [background, ink] = paint(scale, quantity.at(t, chosen.unit));
    spans[t].style.background = background;
    spans[t].style.color = ink;
  }
  showLegend(scale);
}

function showLegend(scale) {
  const stops = [0, 0.25, 0.5, 0.75, 1].map((place) => `rgb(${colourAt(scale, place)})`);
  const bar = element("span", { className: "bar" });
  bar.style.background = `linear-gradient(to right, ${stops.join(", ")})`;
  const [low, high] = scale.ends;
  const note = scale.note ? ` (${scale.note})` : "";
  byId("legend").replaceChildren(
    element("span", { textContent: `${quantityName(chosen.quantity)} of unit ${unitName(chosen.unit)}:` }),
    element("span", { className: "scale" }, low, bar, high + note),
  );
}

/** The step of the character that an event is on, if it is on one. */
function stepOf(event) {
  const span = event.target.closest("#text span");
  return span ? Array.prototype.indexOf.call(byId("text").children, span) : null;
}

/** Marks the step in the sequence and on the slider. */
function showHere() {
  const box = byId("text");
  box.querySelector(".here")?.classList.remove("here");
  const span = box.children[chosen.step];
  span.classList.add("here");
  const [top, bottom] = [span.offsetTop, span.offsetTop + span.offsetHeight];
  if (top < box.scrollTop || bottom > box.scrollTop + box.clientHeight) box.scrollTop = top - box.clientHeight / 2;
  const token = item.tokens ? ` “${visible(tokens[chosen.step])}”` : "";
  const where = `step ${stepName(chosen.step)} of ${stepName(run.steps - 1)}${token}`;
  byId("where").textContent = where;
  byId("slider").value = chosen.step;
  byId("slider").setAttribute("aria-valuetext", where);
}

// -- the units --------------------------------------------------------------------------------------------------------

const measures = () => run.once("measures", () => measuresFor(run, tokens, trace.isText && Boolean(item.tokens)));

function sortUnits() {
  sorted = run.once(`sorted by ${chosen.measure}`, () => sortedUnits(run, measures()[chosen.measure]));
}

function showUnits() {
  byId("units").replaceChildren(...sorted.slice(0, chosen.unitsShown).map(unitRow));
  byId("more-units").hidden = chosen.unitsShown >= sorted.length;
}

function unitRow({ unit, value, note = "" }) {
  const size = Number.isNaN(value) ? "" : shown(value);
  const row = element(
    "button",
    { "data-unit": unit, "aria-label": `unit ${unitName(unit)}, ${chosen.measure}: ${size} ${note}` },
    element("span", { textContent: unitName(unit) }),
    element("span", { textContent: size }),
    picture(run, chosen.quantity, [unit]),
    element("small", { textContent: note, title: note }),
  );
  row.setAttribute("aria-pressed", String(unit === chosen.unit));
  row.addEventListener("click", () => go({ unit }));
  return row;
}

// -- the map ----------------------------------------------------------------------------------------------------------

let mapPicture = null;

function makeMap() {
  const hasOwnRange = scaleOf(run, chosen.quantity, 0).note === OWN_RANGE;
  const range = hasOwnRange ? "; each row is coloured by its own unit's range" : "";
  byId("map-hint").textContent =
    `A row is a unit, in the order chosen above; a column is a step${range}. Click to go there; arrow keys move.`;
  mapPicture = picture(run, chosen.quantity, sorted.map(({ unit }) => unit));
}

function showMap() {
  const canvas = byId("map-canvas");
  const ratio = window.devicePixelRatio || 1;
  const height = Math.min(420, Math.max(120, run.units * 6));
  canvas.width = Math.max(200, byId("map").clientWidth) * ratio;
  canvas.height = height * ratio;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = mapPicture.width > canvas.width || mapPicture.height > canvas.height;
  context.drawImage(mapPicture, 0, 0, canvas.width, canvas.height);
  markInMap(context, ratio);
  showMapReading();
  const size = `${run.units} units by ${run.steps} steps`;
  canvas.setAttribute("aria-label", `Map of ${chosen.quantity}, ${size}. ${byId("map-reading").textContent}`);
}

/** Frames the chosen step and unit. */
function markInMap(context, ratio) {
  const { width, height } = context.canvas;
  const row = sorted.findIndex(({ unit }) => unit === chosen.unit);
  const [w, h] = [width / run.steps, height / run.units];
  for (const [colour, thickness] of [["#fff", 4], ["#111", 2]]) { // visible on every colour
    context.strokeStyle = colour;
    context.lineWidth = thickness * ratio;
    context.strokeRect(chosen.step * w, 0, Math.max(w, 1), height);
    context.strokeRect(0, row * h, width, Math.max(h, 1));
  }
}

function placeInMap(event) {
  const box = byId("map-canvas").getBoundingClientRect();
  const within = (share, size) => clamped(Math.floor(share * size), size);
  const step = within((event.clientX - box.left) / box.width, run.steps);
  return { step, unit: sorted[within((event.clientY - box.top) / box.height, run.units)].unit };
}

function showMapReading({ step, unit } = chosen) {
  byId("map-reading").textContent = `step ${stepName(step)}, ${readingOf(step, unit)}`;
}

/** The chosen quantity of all units, as a table. */
function mapAsCsv() {
  const quantity = run.quantity(chosen.quantity);
  const series = Array.from({ length: run.units }, (_, u) => ({
    name: `${chosen.quantity} of unit ${unitName(u)}`, values: columnOf(quantity, u, run.steps),
  }));
  return tableOf(series, run.steps, ",");
}

// -- the prediction ---------------------------------------------------------------------------------------------------

function showPrediction() {
  const { predictions } = item;
  byId("prediction-section").hidden = !predictions;
  if (!predictions) return;
  const next = predictions.next[chosen.step];
  const came = predictions.came[chosen.step];
  const bars = predictions.top[chosen.step].flatMap(([token, probability], k) => {
    const bar = element("span", { className: "bar" });
    bar.style.width = `${100 * probability}%`;
    return [
      element("span", { className: k === came ? "token came" : "token", textContent: visible(token) }),
      bar,
      element("span", { textContent: percentage(probability) }),
    ];
  });
  const said = element("p", { className: "hint", textContent: outcome(next, predictions.loss[chosen.step]) });
  byId("prediction").replaceChildren(element("div", { className: "bars" }, ...bars), said);
}

/** The next token, its probability and loss. */
function outcome(next, loss) {
  if (next === null) return "Nothing follows.";
  if (loss === null) return `“${visible(next)}” came; the loss is not a finite number.`;
  const probability = percentage(Math.exp(-loss));
  return `“${visible(next)}” came, to which the model gave ${probability}: a loss of ${shown(loss)} nats.`;
}

let moveLossCursor = null;

function makeLossChart() {
  moveLossCursor = null;
  if (!item.predictions) return;
  moveLossCursor = lineChart(byId("loss-chart"), {
    series: [{ name: `loss by ${trace.isText ? "character" : "token"}, nats`, values: item.predictions.loss.map((loss) => loss ?? NaN) }],
    steps: run.steps, label: "Loss", file: "loss.csv", pick: (step) => go({ step }),
  });
}

// -- the gradient's flow ----------------------------------------------------------------------------------------------

let moveFlowCursor = null;

function makeFlowChart() {
  const has = Object.keys(run.gradients).length > 0;
  byId("flow-section").hidden = !has;
  moveFlowCursor = null;
  if (!has) return;
  byId("flow-hint").textContent = flowHint();
  moveFlowCursor = lineChart(byId("flow-chart"), {
    series: flowSeries(), steps: run.steps, logarithmic: true,
    label: "Gradients by step", file: "gradient-flow.csv", pick: (step) => go({ step }),
  });
}

function flowHint() {
  const sizes = "The size of the loss's gradient for the state at each step, on a logarithmic scale.";
  if (!run.keeps) return sizes;
  const [gate, state] = run.keeps;
  return `${sizes} ∏${gate} is what comes back only along ${state}, from the last step on which the loss depends.`
    + ` Paths through the gates, and the loss at other steps, add to it if ∂L/∂${state}ₜ is larger,`
    + " and cancel some of it if that is smaller.";
}

/** ∂L/∂ of the states, and the part that the gate which keeps a state carries back. */
function flowSeries() {
  const ofUnit = chosen.flowOf === "unit";
  const units = ofUnit ? [chosen.unit] : Array.from({ length: run.units }, (_, u) => u);
  const key = ofUnit ? `unit ${chosen.unit}` : "all";
  const bar = ofUnit ? "|" : "‖";
  const series = Object.keys(run.begun).reverse().map((name) => ({
    name: `${bar}∂L/∂${name}ₜ${bar}`,
    values: run.once(`size of ∂${name}, ${key}`, () => sizesOf(run.gradients[name], units)),
  }));
  if (!run.keeps) return series;
  const carried = run.once(`carried, ${key}`, () => carriedAlone(run, ...run.keeps, units));
  return [...series, { name: `by ∏${run.keeps[0]} alone, from the last step`, values: carried }];
}

const norm = (values) => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));

/** At each step the norm of a gradient over units. */
function sizesOf(gradient, units) {
  return Float64Array.from({ length: run.steps }, (_, t) => norm(units.map((u) => gradient.at(t, u))));
}

/**
 * The part of a state's gradient that only a gate carries back: ∏ of the gate, times the gradient at the last step on
 * which the loss depends. It is 0 before a step at which the state began anew.
 */
function carriedAlone(run, gateName, stateName, units) {
  const [gate, gradient] = [run.values[gateName], run.gradients[stateName]];
  let end = run.end;
  while (run.has(run.previous(end)) && units.every((u) => gradient.at(end, u) === 0)) end = run.previous(end);
  const values = new Float64Array(run.steps);
  let carried = units.map((u) => gradient.at(end, u));
  for (let t = end; run.has(t); t = run.previous(t)) {
    values[t] = norm(carried);
    carried = run.restarts.has(t) ? carried.fill(0) : carried.map((value, k) => value * gate.at(t, units[k]));
  }
  return values;
}

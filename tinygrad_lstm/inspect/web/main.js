// The controls, and what changes when they choose something else.

/** Applies choices, and updates what depends on them. */
function go(change, announce = true) {
  const before = { ...chosen };
  Object.assign(chosen, change);
  const changed = (...names) => names.some((name) => before[name] !== chosen[name]);
  const isNewRun = !run || changed("layer", "item");
  if (isNewRun) begin();
  chosen.step = clamped(chosen.step ?? Math.floor(run.steps / 2), run.steps); // at first the middle: at step 0 all is 0
  chosen.unit = clamped(chosen.unit, run.units);
  const isNewOrder = isNewRun || changed("measure");
  if (isNewOrder) sortUnits();
  if (!before.measure || changed("layer")) chosen.unit = sorted[0].unit;
  byId("unit").value = unitName(chosen.unit);
  byId("quantity").value = chosen.quantity;
  if (isNewRun || changed("quantity", "unit")) showText();
  if (isNewOrder || changed("quantity", "unit", "unitsShown")) showUnits();
  if (isNewOrder || changed("quantity")) makeMap();
  if (isNewRun || changed("flowOf") || (chosen.flowOf === "unit" && changed("unit"))) makeFlowChart();
  if (isNewRun) makeLossChart();
  if (isNewRun) makeSeries();
  else if (changed("unit")) showUnitLines();
  showCell();
  showHere();
  showMap();
  showPrediction();
  moveLossCursor?.(chosen.step);
  moveFlowCursor?.(chosen.step);
  moveSeriesCursors.forEach((move) => move(chosen.step));
  moveUnitCursor?.(chosen.step);
  if (announce && changed("step", "unit", "quantity")) {
    byId("announced").textContent = `${byId("where").textContent}; ${readingOf(chosen.step, chosen.unit)}`;
  }
}

/** Updates the page for a different layer or sequence. */
function begin() {
  const layer = trace.layers[chosen.layer];
  run = new Run(layer, chosen.item);
  item = layer.aligned ? trace.items[chosen.item] : { tokens: null };
  tokens = item.tokens?.slice(0, run.steps) ?? Array.from({ length: run.steps }, (_, t) => String(stepName(t)));
  chosen.stage = null;
  chosen.unitsShown = UNITS_SHOWN;
  byId("layer").value = chosen.layer;
  byId("item").value = chosen.item;
  byId("slider").max = run.steps - 1;
  byId("unit").min = Math.min(...layer.units);
  byId("unit").max = Math.max(...layer.units);
  byId("about").textContent = about(layer);
  offerQuantities();
  offerMeasures();
  makeCell();
  makeText();
}

function about({ name, described, reverse, units, hidden }) {
  const shownUnits = units.length === hidden ? `${hidden}` : `${units.length} of ${hidden}`;
  const number = (count, noun) => `${count} ${noun}${String(count) === "1" ? "" : "s"}`;
  const hasLoss = Object.keys(run.gradients).length > 0;
  const loss = hasLoss ? `; L = ${precise(trace.loss ?? NaN)}${trace.lossIs && `, ${trace.lossIs}`}` : "";
  return `${trace.model}: layer ${name}, ${described} with ${number(shownUnits, "unit")}, ${number(run.steps, "step")}`
    + `${reverse ? ", time running from the end" : ""}${loss}`;
}

/** The meanings of gates and states, by name, with their symbols in equations if these differ. */
function meaningsOf({ gates, states }) {
  const named = ({ name, meaning, symbol }) => [name, symbol === name ? meaning : `${meaning} ${symbol}`];
  return Object.fromEntries([...gates.map(named), ...states.map(({ name, meaning }) => [name, meaning])]);
}

function offerQuantities() {
  const names = run.names;
  const meanings = run.table ? meaningsOf(run.table) : {};
  if (!names.includes(chosen.quantity)) chosen.quantity = run.memory;
  const written = (name) => (name in meanings ? `${name}, ${meanings[name]}` : quantityName(name));
  fillSelect(byId("quantity"), names.map((name) => [name, written(name)]), chosen.quantity);
  byId("quantity-keys").textContent = Object.keys(run.values).filter((name) => name.length === 1).join(" ");
}

function offerMeasures() {
  const names = Object.keys(measures());
  if (!names.includes(chosen.measure)) [chosen.measure] = names;
  fillSelect(byId("measure"), names.map((name) => [name, name]), chosen.measure);
}

/** Chooses a unit by its number in the layer; does nothing if the field is empty. */
function chooseUnit(number) {
  if (Number.isNaN(number)) return;
  const at = run.layer.units.indexOf(number);
  go({ unit: at < 0 ? chosen.unit : at });
}

/** Chooses the unit a number of places further in the chosen order. */
function nextUnit(by) {
  const at = sorted.findIndex(({ unit }) => unit === chosen.unit);
  go({ unit: sorted[clamped(at + by, sorted.length)].unit });
}

// -- playing ----------------------------------------------------------------------------------------------------------

let player = null;

function play(on) {
  clearInterval(player);
  player = on ? setInterval(playStep, 1000 / Number(byId("speed").value)) : null;
  byId("play").textContent = on ? "❚❚" : "▶";
  byId("play").setAttribute("aria-label", on ? "Pause" : "Play");
}

function playStep() {
  if (chosen.step < run.steps - 1) go({ step: chosen.step + 1 }, false);
  else play(false);
}

function togglePlay() {
  if (!player && chosen.step === run.steps - 1) go({ step: 0 });
  play(!player);
}

// -- keys -------------------------------------------------------------------------------------------------------------

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

function pressed(event) {
  const isWithinControl = event.target.closest("input, select, textarea");
  if (!byId("shortcuts").checked || event.altKey || event.ctrlKey || event.metaKey || isWithinControl) return;
  if (event.key === " " && event.target.closest("button, [role=button]")) return;
  if (event.key in KEYS) {
    event.preventDefault();
    KEYS[event.key]();
  } else if (run.names.includes(event.key)) {
    go({ quantity: event.key });
  }
}

// -- the beginning ----------------------------------------------------------------------------------------------------

/** Repaints what does not follow a change of colours by itself. */
function repaint() {
  if (!run) return;
  makeMap();
  showUnits();
  showText();
  drawCharts();
}

function drawCharts() {
  makeLossChart();
  makeFlowChart();
  makeSeries();
  go({}, false);
}

/** Goes where the address says: page.html#layer=1&item=0&step=12&unit=3. */
function goToAddress() {
  const asked = new URLSearchParams(location.hash.slice(1));
  const whole = (name, otherwise = 0) => Math.trunc(Number(asked.get(name) ?? otherwise)) || 0;
  go({
    layer: clamped(whole("layer", chosen.layer), trace.layers.length),
    item: clamped(whole("item", chosen.item), trace.items.length),
    step: asked.has("step") ? whole("step") - trace.first : chosen.step,
  }, false);
  if (asked.has("unit")) chooseUnit(whole("unit"));
}

function listen() {
  const chooses = (id, change) => byId(id).addEventListener("change", (event) => go(change(event.target.value)));
  chooses("layer", (value) => ({ layer: Number(value) }));
  chooses("item", (value) => ({ item: Number(value) }));
  chooses("quantity", (quantity) => ({ quantity }));
  chooses("measure", (measure) => ({ measure, unitsShown: UNITS_SHOWN }));
  chooses("flow-of", (flowOf) => ({ flowOf }));
  byId("unit").addEventListener("change", (event) => chooseUnit(event.target.valueAsNumber));

  byId("slider").addEventListener("input", (event) => go({ step: Number(event.target.value) }));
  byId("speed").addEventListener("change", () => player && play(true));
  byId("first").addEventListener("click", KEYS.Home);
  byId("last").addEventListener("click", KEYS.End);
  byId("back").addEventListener("click", KEYS.ArrowLeft);
  byId("forward").addEventListener("click", KEYS.ArrowRight);
  byId("play").addEventListener("click", togglePlay);
  document.addEventListener("keydown", pressed);

  byId("text").addEventListener("click", (event) => {
    const step = stepOf(event);
    if (step !== null) go({ step });
  });
  byId("text").addEventListener("pointerover", (event) => {
    const step = stepOf(event);
    if (step !== null) event.target.title = `step ${stepName(step)}, ${readingOf(step, chosen.unit)}`;
  });
  byId("map-canvas").addEventListener("click", (event) => go(placeInMap(event)));
  byId("map-canvas").addEventListener("pointermove", (event) => showMapReading(placeInMap(event)));
  byId("map-canvas").addEventListener("pointerleave", () => showMapReading());
  byId("map-csv").addEventListener("click", () => download(`${chosen.quantity.replace("∂", "d")}.csv`, mapAsCsv()));
  byId("more-units").addEventListener("click", () => go({ unitsShown: chosen.unitsShown + 40 }));
  byId("copy-numbers").addEventListener("click", (event) => copyText(numbersAsTable(), event.currentTarget));

  window.addEventListener("hashchange", goToAddress);
  let resized = null;
  window.addEventListener("resize", () => {
    clearTimeout(resized);
    resized = setTimeout(drawCharts, 150);
  });
}

followTheme(repaint);
fillSelect(byId("layer"), trace.layers.map(({ name }, k) => [k, name]), 0);
fillSelect(byId("item"), trace.items.map(({ number }, k) => [k, number]), 0);
byId("item").closest("label").hidden = trace.items.length === 1;
byId("precision").textContent = trace.precision;
listen();
goToAddress();

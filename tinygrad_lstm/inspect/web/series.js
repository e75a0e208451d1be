// The model's inputs and outputs over the steps, as lines.

let moveSeriesCursors = [];
let moveUnitCursor = null;

/** Draws the inputs and outputs of the chosen sequence that have a number for each step of the layer. */
function makeSeries() {
  const drawn = trace.series
    .map((series, k) => ({ ...series, numbers: trace.items[chosen.item].series[k] }))
    .filter(({ length }) => length === run.layer.length);
  const { results } = trace.items[chosen.item];
  byId("series-section").hidden = drawn.length === 0 && results.length === 0;
  moveSeriesCursors = [];
  const boxes = drawn.map(seriesBox);
  byId("series").replaceChildren(...boxes.map(({ box }) => box), ...results.map(resultLine));
  boxes.forEach(({ draw }) => draw()); // as wide as its place
  showUnitLines();
}

/** Draws the gates of the chosen unit, or else its states, below the inputs and outputs. */
function showUnitLines() {
  moveUnitCursor = null;
  if (byId("series-section").hidden) return;
  const { gates } = run.layer;
  const names = (gates.length ? gates : Object.keys(run.begun)).slice(0, STROKES.length);
  const title = `${gates.length ? "Gates" : "States"} of unit ${unitName(chosen.unit)}`;
  byId("unit-lines-title").textContent = title;
  moveUnitCursor = lineChart(byId("unit-lines"), {
    series: names.map((name) => ({ name, values: columnOf(run.values[name], chosen.unit, run.steps) })),
    steps: run.steps, label: title, file: `unit-${unitName(chosen.unit)}.csv`, pick: (step) => go({ step }),
  });
}

/** An output without steps, in a line. */
function resultLine({ name, total, values }) {
  const written = values.map((value) => precise(value ?? NaN)).join(", ");
  const more = total > values.length ? `, … (${total} numbers)` : "";
  return element("p", { className: "result", textContent: `${headingOf("output", name)}: ${written}${more}` });
}

const headingOf = (side, name) => capitalised(name === side ? name : `${side} ${name}`);
const capitalised = (text) => text[0].toUpperCase() + text.slice(1);

/** The place of one input or output, and what draws it; a list chooses among more columns than a chart has curves. */
function seriesBox({ side, name, columns, total, perStep, numbers }, place) {
  const rows = unpacked(numbers);
  const chart = element("div");
  const heading = headingOf(side, name);
  const title = element("h3", { textContent: heading });
  const starts = columns.map((_, k) => k).filter((k) => k % STROKES.length === 0);
  const choice = element("select", { "aria-label": `Columns of ${name}` });
  const named = (k) => (total === 1 ? name : columns[k]);
  const draw = () => {
    const shown = columns.map((_, k) => k).slice(Number(choice.value)).slice(0, STROKES.length);
    moveSeriesCursors[place] = lineChart(chart, {
      series: shown.map((k) => ({ name: named(k), values: columnOf(rows, k, run.steps) })),
      steps: run.steps, label: heading, file: `${name}.csv`, pick: (step) => go({ step }),
    });
    moveSeriesCursors[place](chosen.step);
  };
  fillSelect(choice, starts.map((k) => [k, columns.slice(k, k + STROKES.length).join(", ")]), 0);
  choice.addEventListener("change", draw);
  const said = [];
  if (total > columns.length) said.push(`The first ${columns.length} of ${total} columns`);
  if (perStep > 1) said.push(`${perStep} numbers a step`);
  const hint = element("p", { className: "hint", textContent: said.join("; "), hidden: said.length === 0 });
  choice.hidden = starts.length === 1;
  return { box: element("div", {}, title, hint, choice, chart), draw };
}

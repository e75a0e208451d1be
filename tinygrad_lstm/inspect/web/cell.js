// The cells' data paths as drawings, with one unit's numbers on their wires.

// A plain layer's drawing: `stages` are those of the equations, whose parts light up together; `wires` are lines, each with
// a number beside it; `gates` are where the gates' boxes stand; `ops` work unit by unit; `ports` are where states come in
// and go out. Other cells have a drawing of their program, which Python has made.
const letThrough = (v) => (v.nets ? v.r * (v.nets.n.h + v.nets.n.ofState) : null);

const DRAWINGS = {
  LSTM: {
    stages: ["hx", "f", "i", "g", "c", "o", "h"],
    size: [960, 440],
    wires: [
      { stage: "c", line: "M30 80 H240", value: "c_before", at: [120, 68] },
      { stage: "c", line: "M240 80 H437", value: (v) => v.f * v.c_before, at: [345, 68] },
      { stage: "c", line: "M437 80 H930", value: "c", at: [560, 68], arrow: true },
      { stage: "hx", line: "M30 370 H130", value: "h_before", at: [75, 358] },
      { stage: "hx", line: "M130 430 V370" },
      { stage: "hx", line: "M130 370 H635" },
      { stage: "f", line: "M240 370 V312", arrow: true },
      { stage: "i", line: "M375 370 V312", arrow: true },
      { stage: "g", line: "M500 370 V312", arrow: true },
      { stage: "o", line: "M635 370 V312", arrow: true },
      { stage: "f", line: "M240 260 V98", value: "f", at: [272, 180], arrow: true },
      { stage: "i", line: "M375 260 V180 H419", value: "i", at: [366, 168], arrow: true },
      { stage: "g", line: "M500 260 V180 H455", value: "g", at: [512, 168], arrow: true },
      { stage: "c", line: "M437 162 V98", value: (v) => v.i * v.g, at: [474, 130], arrow: true },
      { stage: "h", line: "M720 80 V132", arrow: true },
      { stage: "h", line: "M720 172 V212", value: (v) => Math.tanh(v.c), at: [762, 198], arrow: true },
      { stage: "o", line: "M635 260 V230 H702", value: "o", at: [664, 218], arrow: true },
      { stage: "h", line: "M738 230 H820 V370 H930", value: "h", at: [868, 358], arrow: true },
    ],
    gates: { f: [240, 286], i: [375, 286], g: [500, 286], o: [635, 286] },
    ops: [
      { stage: "c", at: [240, 80], label: "×" },
      { stage: "c", at: [437, 80], label: "+" },
      { stage: "c", at: [437, 180], label: "×" },
      { stage: "h", at: [720, 152], label: "tanh" },
      { stage: "h", at: [720, 230], label: "×" },
      { stage: "hx", at: [130, 370], label: "[,]" },
    ],
    ports: [
      { at: [40, 108], label: "cₜ₋₁" }, { at: [40, 398], label: "hₜ₋₁" }, { at: [160, 430], label: "xₜ" },
      { at: [915, 108], label: "cₜ" }, { at: [915, 398], label: "hₜ" },
    ],
  },
  GRU: {
    stages: ["r", "z", "n", "h"],
    size: [960, 400],
    wires: [
      { stage: "h", line: "M30 70 H560", value: "h_before", at: [120, 58] },
      { stage: "h", line: "M560 70 H740", value: (v) => v.z * v.h_before, at: [650, 58] },
      { stage: "h", line: "M740 70 H930", value: "h", at: [840, 58], arrow: true },
      { stage: "r", line: "M110 70 V330 H380" },
      { stage: "r", line: "M200 390 V330" },
      { stage: "r", line: "M200 330 V282", arrow: true },
      { stage: "z", line: "M380 330 V282", arrow: true },
      { stage: "r", line: "M200 230 V150 H282", value: "r", at: [235, 138], arrow: true },
      { stage: "n", line: "M300 70 V132", arrow: true },
      { stage: "n", line: "M318 150 H560 V230", value: letThrough, at: [430, 138], arrow: true },
      { stage: "n", line: "M380 330 H560 V282", arrow: true },
      { stage: "z", line: "M380 230 V110 H560 V88", value: "z", at: [410, 200], arrow: true },
      { stage: "n", line: "M617 256 H700", value: "n", at: [660, 244], arrow: true },
      { stage: "h", line: "M740 238 V88", value: (v) => (1 - v.z) * v.n, at: [785, 170], arrow: true },
    ],
    gates: { r: [200, 256], z: [380, 256], n: [560, 256] },
    ops: [
      { stage: "h", at: [560, 70], label: "×" },
      { stage: "n", at: [300, 150], label: "×" },
      { stage: "h", at: [740, 256], label: "× 1−z" },
      { stage: "h", at: [740, 70], label: "+" },
    ],
    ports: [{ at: [40, 98], label: "hₜ₋₁" }, { at: [230, 390], label: "xₜ" }, { at: [915, 98], label: "hₜ" }],
  },
  RNN: {
    stages: ["hx", "h"],
    size: [960, 240],
    wires: [
      { stage: "hx", line: "M30 120 H250", value: "h_before", at: [120, 108] },
      { stage: "hx", line: "M250 220 V120" },
      { stage: "hx", line: "M250 120 H430", arrow: true },
      { stage: "h", line: "M547 120 H930", value: "h", at: [720, 108], arrow: true },
    ],
    gates: { h: [490, 120] },
    ops: [{ stage: "hx", at: [250, 120], label: "[,]" }],
    ports: [{ at: [40, 148], label: "hₜ₋₁" }, { at: [280, 220], label: "xₜ" }, { at: [915, 148], label: "hₜ" }],
  },
};

const valueOf = (value, numbers) => (typeof value === "function" ? value(numbers) : numbers[value]);

/** The parts of a drawing; each returns its elements, and how to fill them with numbers. */
const PARTS = {
  wire({ line, value, at, arrow }) {
    const wire = svg("path", { class: "wire", d: line });
    if (arrow) wire.setAttribute("marker-end", "url(#arrow)");
    if (!value) return { elements: [wire] };
    const text = svg("text", { class: "number", x: at[0], y: at[1] });
    if (typeof value === "string") text.dataset.value = value;
    const fill = (numbers) => {
      const found = valueOf(value, numbers);
      text.textContent = found === null ? "" : brief(found);
    };
    return { elements: [wire, text], fill };
  },

  box({ at: [x, y], size: [width, height] = [114, 52], label, value }) {
    const [left, bottom] = [x - width / 2, y + height / 2];
    const level = svg("rect", { class: "fill", x: left + 1, width: width - 2, rx: 6 });
    const frame = svg("rect", { class: "box", x: left, y: bottom - height, width, height, rx: 7 });
    const fill = (numbers) => {
      const share = Math.min(1, Math.abs(numbers[value]) || 0);
      level.setAttribute("y", bottom - 1 - (height - 2) * share);
      level.setAttribute("height", (height - 2) * share);
    };
    return { elements: [frame, level, ...(label ? [svg("text", { x, y: y + 6 }, label)] : [])], fill };
  },

  op({ at: [x, y], radii, label }) {
    const [rx, ry] = radii ?? [label.length > 2 ? 14 + 4.5 * label.length : 18, 18];
    const shape = svg("ellipse", { class: "op", cx: x, cy: y, rx, ry });
    return { elements: [shape, ...(label ? [svg("text", { x, y: y + 6 }, label)] : [])] };
  },

  dot({ at: [x, y] }) {
    return { elements: [svg("circle", { class: "dot", cx: x, cy: y, r: 4 })] };
  },

  text({ at: [x, y], text, value, class: kind }) {
    const written = svg("text", { class: kind, x, y }, text);
    if (!value) return { elements: [written] };
    written.dataset.value = value;
    const fill = (numbers) => { written.textContent = value in numbers ? brief(numbers[value]) : ""; };
    return { elements: [written], fill };
  },
};

/** A gate's box, "f: σ forget": a layer of weights. If it is a state, its name is beside it. */
function boxOf({ name, symbol, subscript, meaning, function: squash }, at) {
  const label = squash === "σ" ? `${symbol}: σ ${meaning.replace(" gate", "")}` : `${symbol}: ${squash}`;
  return { stage: name, at, label: subscript ? label : squash, value: name };
}

function stageGroup(id, choose) {
  const group = svg("g", { "data-stage": id, tabindex: 0, role: "button" });
  for (const event of ["pointerenter", "focus", "click"]) group.addEventListener(event, () => choose(id));
  return group;
}

function arrowHead() {
  const place = { refX: 9, refY: 5, markerWidth: 6, markerHeight: 6, orient: "auto" };
  const head = svg("path", { d: "M0 0 L10 5 L0 10 Z", fill: "currentColor" });
  return svg("defs", {}, svg("marker", { id: "arrow", viewBox: "0 0 10 10", ...place }, head));
}

/** The parts of a plain layer's drawing. */
function knownShapes(run) {
  const { wires, gates, ops, ports } = DRAWINGS[run.kind];
  return [
    ...wires.map((wire) => ({ kind: "wire", ...wire })),
    ...run.table.gates.map((gate) => ({ kind: "box", ...boxOf(gate, gates[gate.name]) })),
    ...ops.map((op) => ({ kind: "op", ...op })),
    ...ports.map(({ at, label }) => ({ kind: "text", class: "port", at, text: inOrder(run, label) })),
  ];
}

const hasDrawing = (run) => run.kind in DRAWINGS || run.layer.drawing !== null;

/** The cell's drawing; `update` puts numbers into it, `mark` shows which stage is chosen. */
function drawCell(run, choose) {
  const { size: [width, height], stages, shapes } = run.kind in DRAWINGS
    ? { ...DRAWINGS[run.kind], shapes: knownShapes(run) }
    : { ...run.layer.drawing, stages: run.layer.equations.map((_, k) => String(k)) };
  const label = `The data path of the ${run.layer.described} cell`;
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": label }, arrowHead());
  const groups = new Map(stages.map((id) => [id, stageGroup(id, choose)]));
  const fillers = [];
  const outside = [];
  for (const shape of shapes) {
    const { elements, fill } = PARTS[shape.kind](shape);
    const group = groups.get(String(shape.stage));
    if (group) group.append(...elements);
    else outside.push(...elements);
    if (fill) fillers.push(fill);
  }
  root.append(...[...groups.values()].filter((group) => group.childElementCount), ...outside);
  if (!(run.kind in DRAWINGS)) { // its texts are not smaller than the page's
    root.style.minWidth = `${0.77 * width}px`;
    root.style.maxWidth = `${1.1 * width}px`;
  }

  const update = (numbers, equations) => {
    for (const fill of fillers) fill(numbers);
    for (const { id, name, formula, numbers: text } of equations) {
      const label = run.kind ? `${name}: ${formula} = ${text}` : [formula, text].filter(Boolean).join("; ");
      groups.get(id)?.setAttribute("aria-label", label);
    }
  };
  const mark = (id) => groups.forEach((group, of) => group.classList.toggle("chosen", of === id));
  return { root, width, update, mark };
}

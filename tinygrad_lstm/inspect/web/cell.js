// The cells: their equations with one unit's numbers put in, and their data paths as drawings.

const DIGITS = 4; // of the numbers that go into an equation; its result has one less

/** What a unit's equations are made of at a step. */
function numbersAt(run, t, u) {
  const found = { nets: run.nets(t, u) };
  for (const name of Object.keys(run.values)) found[name] = run.values[name].at(t, u);
  for (const name of Object.keys(run.begun)) found[`${name}_before`] = run.before(name, t, u);
  for (const name of Object.keys(run.gradients)) found[`∂${name}`] = run.gradients[name].at(t, u);
  const next = run.next(t);
  const goesOn = run.has(next) && !run.restarts.has(next);
  found.f_next = goesOn && run.values.f ? run.values.f.at(next, u) : 0;
  found.of_c_next = goesOn && run.gradients.c ? run.gradients.c.at(next, u) : 0;
  return found;
}

const n = (number) => shown(number, DIGITS);
const result = (number) => shown(number, DIGITS - 1);

/** "σ(a + b + c) = σ(sum) = gate", of what went into a gate; without the weights, the gate alone. */
function gateNumbers(squash, net, gate) {
  if (!net) return result(gate);
  const parts = [net.x, net.h, net.b].map((part) => Number(part.toFixed(DIGITS)));
  const sum = parts[0] + parts[1] + parts[2];
  return `${squash}(${n(parts[0])} ${signed(parts[1], DIGITS)} ${signed(parts[2], DIGITS)}) = ${squash}(${n(sum)}) = ${result(gate)}`;
}

const percent = (share) => `${Math.round(100 * share)} %`;

/** Where the gradient of an LSTM's cell state comes from: along the state by the forget gate, or from the output. */
function gradientOfCell(v) {
  if (v["∂c"] === undefined) return [];
  const [along, slope] = [v.of_c_next * v.f_next, v.o * (1 - Math.tanh(v.c) ** 2)];
  const g = (number) => inBrackets(number, null);
  return [{
    id: "back", name: "gradient of the cell state", formula: "∂L/∂cₜ = ∂L/∂cₜ₊₁·fₜ₊₁ + ∂L/∂hₜ·o·(1 − tanh²(cₜ))",
    numbers: `${shown(v.of_c_next, null)}·${n(v.f_next)} + ${g(v["∂h"])}·${n(slope)} = ${g(along)} + ${g(v["∂h"] * slope)} = ${shown(v["∂c"], null)}`,
    meaning: "what comes back along the state by the forget gate, and what comes by the output and the other gates",
  }];
}

const EQUATIONS = {
  LSTM(v) {
    const net = v.nets ?? {};
    return [
      { id: "hx", name: "concatenation", formula: "[hₜ₋₁, xₜ]", numbers: `hₜ₋₁ = ${result(v.h_before)}, and the other units' states and all inputs`, meaning: "what the gates see" },
      { id: "f", name: "forget gate", formula: "f = σ(W_f·xₜ + U_f·hₜ₋₁ + b_f)", numbers: gateNumbers("σ", net.f, v.f), meaning: `keeps ${percent(v.f)} of the old cell state`, from: net.f?.from },
      { id: "i", name: "input gate", formula: "i = σ(W_i·xₜ + U_i·hₜ₋₁ + b_i)", numbers: gateNumbers("σ", net.i, v.i), meaning: `lets in ${percent(v.i)} of the candidate`, from: net.i?.from },
      { id: "g", name: "candidate", formula: "c̃ = tanh(W_C·xₜ + U_C·hₜ₋₁ + b_C)", numbers: gateNumbers("tanh", net.g, v.g), meaning: "what could be written", from: net.g?.from },
      { id: "c", name: "cell state", formula: "cₜ = f·cₜ₋₁ + i·c̃", numbers: `${n(v.f)}·${inBrackets(v.c_before, DIGITS)} + ${n(v.i)}·${inBrackets(v.g, DIGITS)} = ${n(v.f * v.c_before)} ${signed(v.i * v.g, DIGITS)} = ${result(v.c)}`, meaning: "what is kept, and what is added" },
      { id: "o", name: "output gate", formula: "o = σ(W_o·xₜ + U_o·hₜ₋₁ + b_o)", numbers: gateNumbers("σ", net.o, v.o), meaning: `shows ${percent(v.o)} of the cell state`, from: net.o?.from },
      { id: "h", name: "hidden state", formula: "hₜ = o·tanh(cₜ)", numbers: `${n(v.o)}·tanh(${n(v.c)}) = ${n(v.o)}·${inBrackets(Math.tanh(v.c), DIGITS)} = ${result(v.h)}`, meaning: "the output, and what the next step sees" },
      ...gradientOfCell(v),
    ];
  },
  GRU(v) {
    const net = v.nets ?? {};
    const q = net.n ? net.n.h + net.n.b_hn : NaN;
    const candidate = net.n
      ? `tanh(${n(net.n.x + net.n.b)} + ${n(v.r)}·${inBrackets(q, DIGITS)}) = tanh(${n(net.n.x + net.n.b + v.r * q)}) = ${result(v.n)}`
      : result(v.n);
    return [
      { id: "r", name: "reset gate", formula: "r = σ(W_r·xₜ + U_r·hₜ₋₁ + b_r)", numbers: gateNumbers("σ", net.r, v.r), meaning: `lets ${percent(v.r)} of the old state into the candidate`, from: net.r?.from },
      { id: "z", name: "update gate", formula: "z = σ(W_z·xₜ + U_z·hₜ₋₁ + b_z)", numbers: gateNumbers("σ", net.z, v.z), meaning: `keeps ${percent(v.z)} of the old state`, from: net.z?.from },
      { id: "n", name: "candidate", formula: "n = tanh(W_n·xₜ + b_n + r·(U_n·hₜ₋₁ + b_hn))", numbers: candidate, meaning: "what could be written", from: net.n?.from },
      { id: "h", name: "hidden state", formula: "hₜ = (1 − z)·n + z·hₜ₋₁", numbers: `(1 − ${n(v.z)})·${inBrackets(v.n, DIGITS)} + ${n(v.z)}·${inBrackets(v.h_before, DIGITS)} = ${n((1 - v.z) * v.n)} ${signed(v.z * v.h_before, DIGITS)} = ${result(v.h)}`, meaning: "what is added, and what is kept" },
    ];
  },
  RNN(v) {
    const net = v.nets?.h;
    return [
      { id: "hx", name: "concatenation", formula: "[hₜ₋₁, xₜ]", numbers: `hₜ₋₁ = ${result(v.h_before)}, and the other units' states and all inputs`, meaning: "what the unit sees" },
      { id: "h", name: "hidden state", formula: "hₜ = tanh(W·xₜ + U·hₜ₋₁ + b)", numbers: gateNumbers("tanh", net, v.h), meaning: "the output, and what the next step sees", from: net?.from },
    ];
  },
};

// A drawing: `wires` are lines, each with a number beside it; `boxes` are layers of weights; `ops` work unit by unit;
// `ports` are where states come in and go out. A stage's parts light up together.
const DRAWINGS = {
  LSTM: {
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
    boxes: [
      { stage: "f", at: [240, 286], label: "f: σ forget", value: "f" },
      { stage: "i", at: [375, 286], label: "i: σ input", value: "i" },
      { stage: "g", at: [500, 286], label: "c̃: tanh", value: "g" },
      { stage: "o", at: [635, 286], label: "o: σ output", value: "o" },
    ],
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
      { stage: "n", line: "M318 150 H560 V230", value: (v) => (v.nets ? v.r * (v.nets.n.h + v.nets.n.b_hn) : NaN), at: [430, 138], arrow: true },
      { stage: "n", line: "M380 330 H560 V282", arrow: true },
      { stage: "z", line: "M380 230 V110 H560 V88", value: "z", at: [410, 200], arrow: true },
      { stage: "n", line: "M617 256 H700", value: "n", at: [660, 244], arrow: true },
      { stage: "h", line: "M740 238 V88", value: (v) => (1 - v.z) * v.n, at: [785, 170], arrow: true },
    ],
    boxes: [
      { stage: "r", at: [200, 256], label: "r: σ reset", value: "r" },
      { stage: "z", at: [380, 256], label: "z: σ update", value: "z" },
      { stage: "n", at: [560, 256], label: "n: tanh", value: "n" },
    ],
    ops: [
      { stage: "h", at: [560, 70], label: "×" },
      { stage: "n", at: [300, 150], label: "×" },
      { stage: "h", at: [740, 256], label: "× 1−z" },
      { stage: "h", at: [740, 70], label: "+" },
    ],
    ports: [{ at: [40, 98], label: "hₜ₋₁" }, { at: [230, 390], label: "xₜ" }, { at: [915, 98], label: "hₜ" }],
  },
  RNN: {
    size: [960, 240],
    wires: [
      { stage: "hx", line: "M30 120 H250", value: "h_before", at: [120, 108] },
      { stage: "hx", line: "M250 220 V120" },
      { stage: "hx", line: "M250 120 H430", arrow: true },
      { stage: "h", line: "M547 120 H930", value: "h", at: [720, 108], arrow: true },
    ],
    boxes: [{ stage: "h", at: [490, 120], label: "tanh", value: "h" }],
    ops: [{ stage: "hx", at: [250, 120], label: "[,]" }],
    ports: [{ at: [40, 148], label: "hₜ₋₁" }, { at: [280, 220], label: "xₜ" }, { at: [915, 148], label: "hₜ" }],
  },
};

const SVG = "http://www.w3.org/2000/svg";

function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** In a layer that runs from the end, what came before has the next number. */
const inOrder = (run, text) => (run.reverse ? text.replace(/ₜ[₋₊]₁/g, (index) => (index === "ₜ₋₁" ? "ₜ₊₁" : "ₜ₋₁")) : text);

const valueOf = (value, numbers) => (typeof value === "function" ? value(numbers) : numbers[value]);

/** The cell's drawing, and a function that puts numbers into it. */
function drawCell(run, choose) {
  const { kind } = run;
  const drawing = DRAWINGS[kind];
  const [width, height] = drawing.size;
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": `The data path of the ${kind} cell` });
  const arrow = svg("marker", { id: "arrow", viewBox: "0 0 10 10", refX: 9, refY: 5, markerWidth: 6, markerHeight: 6, orient: "auto" }, svg("path", { d: "M0 0 L10 5 L0 10 Z", fill: "currentColor" }));
  root.append(svg("defs", {}, arrow));
  const fillers = [];
  const parts = new Map();

  const stage = (id) => {
    if (!parts.has(id)) {
      const group = svg("g", { "data-stage": id, tabindex: 0, role: "button" });
      for (const event of ["pointerenter", "focus", "click"]) group.addEventListener(event, () => choose(id));
      parts.set(id, group);
    }
    return parts.get(id);
  };
  for (const { stage: id, line, value, at, arrow: pointed } of drawing.wires) {
    const wire = svg("path", { class: "wire", d: line });
    if (pointed) wire.setAttribute("marker-end", "url(#arrow)");
    stage(id).append(wire);
    if (value) {
      const text = svg("text", { class: "number", x: at[0], y: at[1] });
      if (typeof value === "string") text.dataset.value = value;
      stage(id).append(text);
      fillers.push((numbers) => { text.textContent = shown(valueOf(value, numbers), 3); });
    }
  }
  for (const { stage: id, at: [x, y], label, value } of drawing.boxes) {
    const fill = svg("rect", { class: "fill", x: x - 56, width: 112, rx: 6 });
    stage(id).append(
      svg("rect", { class: "box", x: x - 57, y: y - 26, width: 114, height: 52, rx: 7 }), fill,
      svg("text", { x, y: y + 6 }, label),
    );
    fillers.push((numbers) => {
      const share = Math.min(1, Math.abs(numbers[value]) || 0);
      fill.setAttribute("y", y + 25 - 50 * share);
      fill.setAttribute("height", 50 * share);
    });
  }
  for (const { stage: id, at: [x, y], label } of drawing.ops) {
    stage(id).append(svg("ellipse", { class: "op", cx: x, cy: y, rx: label.length > 2 ? 14 + 4.5 * label.length : 18, ry: 18 }), svg("text", { x, y: y + 6 }, label));
  }
  root.append(...parts.values());
  for (const { at: [x, y], label } of drawing.ports) root.append(svg("text", { class: "port", x, y }, inOrder(run, label)));

  const update = (numbers, equations) => {
    for (const fill of fillers) fill(numbers);
    for (const { id, name, formula, numbers: text } of equations) parts.get(id)?.setAttribute("aria-label", `${name}: ${formula} = ${text}`);
  };
  const mark = (id) => parts.forEach((group, of) => group.classList.toggle("chosen", of === id));
  return { root, update, mark };
}

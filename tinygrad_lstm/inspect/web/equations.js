// The cells' equations, stage by stage, with one unit's numbers put in.

/** The values in a unit's equations at a step. */
function numbersAt(run, t, u) {
  const found = { nets: run.nets(t, u), next: null };
  for (const name of Object.keys(run.values)) found[name] = run.values[name].at(t, u);
  for (const name of Object.keys(run.begun)) found[`${name}_before`] = run.before(name, t, u);
  for (const name of Object.keys(run.gradients)) found[`∂${name}`] = run.gradients[name].at(t, u);
  const [gate, state] = run.keeps ?? [];
  if (run.gradients[state] && run.goesOn(t)) {
    const next = run.next(t);
    found.next = { gate: run.values[gate].at(next, u), ofState: run.gradients[state].at(next, u) };
  }
  return found;
}

const percent = (share) => (Number.isNaN(share) ? "NaN" : `${Math.round(100 * share)} %`);

/** "σ(a + b + c) = σ(sum) = gate", from a gate's inputs; only the gate if the weights are not there. */
function gateNumbers(squash, net, gate) {
  if (!net) return rounded(gate);
  const [x, h, b] = [net.x, net.h, net.b].map((part) => Number(part.toFixed(4)));
  const write = (number) => shown(number, 4);
  const sum = `${write(x)} ${signed(h, write)} ${signed(b, write)}`;
  return `${squash}(${sum}) = ${squash}(${write(x + h + b)}) = ${rounded(gate)}`;
}

/** The stage of a gate, or of a state that is a squashed sum. */
function gateStage(v, gates, id, meaning) {
  const net = v.nets?.[id];
  const { meaning: name, function: squash, symbol, subscript } = gates.find((gate) => gate.name === id);
  const index = subscript && `_${subscript}`;
  return {
    id, name, meaning,
    formula: `${symbol} = ${squash}(W${index}·xₜ + U${index}·hₜ₋₁ + b${index})`,
    numbers: gateNumbers(squash, net, v[id]),
    largest: net?.largest,
  };
}

/** The stage of a state, under its name in the table of kinds. */
const stateStage = (states, id, stage) => ({ id, name: states.find((state) => state.name === id).meaning, ...stage });

const concatenation = (v) => ({
  id: "hx", name: "concatenation", meaning: "what all gates see",
  formula: "[hₜ₋₁, xₜ]",
  numbers: `[${rounded(v.h_before)} and the other units' hₜ₋₁, all inputs xₜ]`,
});

/** (share of the old)·old + (share of the new)·new, as a chain that ends with the result. */
function mixture(first, second, result) {
  const product = ([a, b]) => `${a}·${inBrackets(b)}`;
  const sum = `${precise(first.product)} ${signed(second.product)}`;
  return `${product(first.factors)} + ${product(second.factors)} = ${sum} = ${rounded(result)}`;
}

/** Where the gradient of an LSTM's cell state comes from: along the state by the forget gate, or from the output. */
function gradientOfCell(v) {
  if (v["∂c"] === undefined) return [];
  const slope = v.o * (1 - Math.tanh(v.c) ** 2);
  const byOutput = v["∂h"] * slope;
  const along = v.next ? v.next.ofState * v.next.gate : remainder(v["∂c"], byOutput);
  const source = v.next ? `${precise(v.next.ofState)}·${precise(v.next.gate)}` : precise(along);
  const sum = `${inBrackets(along)} + ${inBrackets(byOutput)}`;
  let meaning = "what comes back along the state by the forget gate, and what comes by the hidden state";
  if (!v.next && along) meaning += "; the first comes from where this page does not reach";
  if (!v.next && !along) meaning += "; no gradient comes back along the state from a later step";
  return [{
    id: "back", name: "gradient of the cell state", meaning,
    formula: "∂L/∂cₜ = ∂L/∂cₜ₊₁·fₜ₊₁ + ∂L/∂hₜ·o·(1 − tanh²(cₜ))",
    numbers: `${source} + ${inBrackets(v["∂h"])}·${precise(slope)} = ${sum} = ${precise(v["∂c"])}`,
  }];
}

/** The whole without a part; 0 if they differ by at most the page's rounding. */
function remainder(whole, part) {
  const rest = whole - part;
  return Math.abs(rest) < 0.01 * Math.max(Math.abs(whole), Math.abs(part)) ? 0 : rest;
}

/** The gradient of a GRU's state: the part along the state by the update gate, and the rest. */
function gradientOfGRU(v) {
  if (v["∂h"] === undefined || !v.next) return [];
  const along = v.next.ofState * v.next.gate;
  const rest = inBrackets(v["∂h"] - along);
  return [{
    id: "back", name: "gradient of the hidden state",
    meaning: "what comes back along the state by the update gate, and what comes by the output and the other gates",
    formula: "∂L/∂hₜ = ∂L/∂hₜ₊₁·zₜ₊₁ + the rest",
    numbers: `${precise(v.next.ofState)}·${precise(v.next.gate)} + ${rest} = `
      + `${inBrackets(along)} + ${rest} = ${precise(v["∂h"])}`,
  }];
}

function candidateOfGRU(v, gates) {
  const net = v.nets?.n;
  let numbers = rounded(v.n);
  if (net) {
    const old = net.h + net.ofState;
    const sum = `${precise(net.x + net.b)} + ${precise(v.r)}·${inBrackets(old)}`;
    numbers = `tanh(${sum}) = tanh(${precise(net.x + net.b + v.r * old)}) = ${rounded(v.n)}`;
  }
  const formula = "n = tanh(W_n·xₜ + b_n + r·(U_n·hₜ₋₁ + b_hn))";
  return { ...gateStage(v, gates, "n", "what could be written"), numbers, formula };
}

const EQUATIONS = {
  LSTM: (v, { gates, states }) => [
    concatenation(v),
    gateStage(v, gates, "f", `keeps ${percent(v.f)} of the old cell state`),
    gateStage(v, gates, "i", `lets in ${percent(v.i)} of the candidate`),
    gateStage(v, gates, "g", "what could be written"),
    stateStage(states, "c", {
      meaning: "what is kept, and what is added",
      formula: "cₜ = f·cₜ₋₁ + i·c̃",
      numbers: mixture(
        { factors: [precise(v.f), v.c_before], product: v.f * v.c_before },
        { factors: [precise(v.i), v.g], product: v.i * v.g },
        v.c,
      ),
    }),
    gateStage(v, gates, "o", `shows ${percent(v.o)} of the squashed cell state`),
    stateStage(states, "h", {
      meaning: "the output, and what the next step sees",
      formula: "hₜ = o·tanh(cₜ)",
      numbers: [`tanh(${precise(v.c)})`, inBrackets(Math.tanh(v.c))]
        .map((squashed) => `${precise(v.o)}·${squashed}`).concat(rounded(v.h)).join(" = "),
    }),
    ...gradientOfCell(v),
  ],
  GRU: (v, { gates, states }) => [
    gateStage(v, gates, "r", `lets ${percent(v.r)} of the old state into the candidate`),
    gateStage(v, gates, "z", `keeps ${percent(v.z)} of the old state`),
    candidateOfGRU(v, gates),
    stateStage(states, "h", {
      meaning: "what is added, and what is kept",
      formula: "hₜ = (1 − z)·n + z·hₜ₋₁",
      numbers: mixture(
        { factors: [`(1 − ${precise(v.z)})`, v.n], product: (1 - v.z) * v.n },
        { factors: [precise(v.z), v.h_before], product: v.z * v.h_before },
        v.h,
      ),
    }),
    ...gradientOfGRU(v),
  ],
  RNN: (v, { gates }) => [concatenation(v), gateStage(v, gates, "h", "the output, and what the next step sees")],
};

const OTHER_WAY = { "ₜ₋₁": "ₜ₊₁", "ₜ₊₁": "ₜ₋₁" };

/** In a layer that runs from the end, the previous step has the next number. */
const inOrder = (run, text) => (run.reverse ? text.replace(/ₜ[₋₊]₁/g, (index) => OTHER_WAY[index]) : text);

/** The equations of a cell's program, with a unit's numbers of the values that they compute. */
function equationsOfProgram(run, numbers) {
  const meanings = run.table ? meaningsOf(run.table) : {};
  return run.layer.equations.map((formula, k) => {
    const computed = formula.split(" = ", 1)[0].split(", ");
    const names = computed.map((name) => name.replace(/^next_/, "")); // next_h is the state h after the step
    const known = names.flatMap((name, j) => (name in run.values ? [`${computed[j]} = ${precise(numbers[name])}`] : []));
    return { id: String(k), name: computed.join(", "), formula, numbers: known.join(", "), meaning: meanings[names[0]] };
  });
}

/** The equations of a unit at a step, as a list of stages in the order of computation. */
function equationsOf(run, numbers) {
  if (!run.kind) return equationsOfProgram(run, numbers);
  const written = EQUATIONS[run.kind](numbers, run.table);
  return written.map((stage) => ({
    ...stage, formula: inOrder(run, stage.formula), numbers: inOrder(run, stage.numbers),
  }));
}

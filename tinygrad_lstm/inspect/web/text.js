// The sequence, coloured; and the units, sorted by what they might be about.

/** How a token looks: a line's end, a tab and a space can be seen. */
const visible = (token) => ({ "\n": "↵", "\t": "⇥", " ": "␣" }[token] ?? token);

/** What is true of a text at each of its characters, to which units may correspond. */
function featuresOf(tokens) {
  const features = {
    "position in the sequence": tokens.map((_, t) => t),
  };
  if (!tokens.some((token) => /[^\d]/.test(token))) return features; // numbers of steps, not a text
  let inQuotes = 0;
  let depth = 0;
  let column = 0;
  let inWord = 0;
  const quotes = [];
  const brackets = [];
  const columns = [];
  const words = [];
  for (const token of tokens) {
    if (token === '"') inQuotes = 1 - inQuotes;
    if ("([{".includes(token)) depth += 1;
    if (")]}".includes(token)) depth = Math.max(0, depth - 1);
    column = token === "\n" ? 0 : column + 1;
    inWord = /\p{L}|\p{N}/u.test(token) ? inWord + 1 : 0;
    quotes.push(inQuotes);
    brackets.push(depth);
    columns.push(column);
    words.push(inWord);
  }
  return {
    ...features,
    "length of the line so far": columns,
    "length of the word so far": words,
    "inside quotes": quotes,
    "depth of brackets": brackets,
    "a space or line's end": tokens.map((token) => Number(/\s/.test(token))),
    "a capital letter": tokens.map((token) => Number(/\p{Lu}/u.test(token))),
    "a vowel": tokens.map((token) => Number(/[aeiouyAEIOUY]/.test(token))),
    "a digit": tokens.map((token) => Number(/\p{N}/u.test(token))),
    "punctuation": tokens.map((token) => Number(/\p{P}/u.test(token))),
  };
}

function moments(values) {
  let sum = 0;
  for (const value of values) sum += value;
  const mean = sum / values.length;
  let squares = 0;
  for (const value of values) squares += (value - mean) ** 2;
  return [mean, squares / values.length];
}

/** The correlation of two rows of numbers; 0 where one does not vary. */
function correlation(a, b) {
  const [meanA, varianceA] = moments(a);
  const [meanB, varianceB] = moments(b);
  let product = 0;
  for (let k = 0; k < a.length; k++) product += (a[k] - meanA) * (b[k] - meanB);
  const scale = Math.sqrt(varianceA * varianceB);
  return scale > 1e-12 ? product / a.length / scale : 0;
}

const columnOf = (quantity, unit, steps) => Float64Array.from({ length: steps }, (_, t) => quantity.at(t, unit));

/** Ways to sort units: each gives for a unit a number, of which the largest size comes first, and what it is about. */
function measuresFor(run, tokens) {
  const state = run.values.c ? "c" : "h";
  const column = (name, u) => columnOf(run.quantity(name), u, run.steps);
  const measures = { [`variance of ${state}`]: (u) => [moments(column(state, u))[1]] };
  const keeps = { LSTM: "f", GRU: "z" }[run.kind];
  if (keeps) measures[`mean of ${keeps} (how long it remembers)`] = (u) => [moments(column(keeps, u))[0]];
  if (run.gradients[state]) {
    measures[`mean size of ∂L/∂${state}`] = (u) => [moments(column(`∂${state}`, u).map(Math.abs))[0]];
  }
  const features = Object.entries(featuresOf(tokens)).filter(([, feature]) => moments(feature)[1] > 0);
  for (const [name, feature] of features) {
    measures[`correlation of ${state} with: ${name}`] = (u) => [correlation(column(state, u), feature)];
  }
  measures["number"] = null;
  const ofText = features.slice(1); // without the position
  if (!ofText.length) return measures;
  const closest = (u) => {
    const values = column(state, u);
    const found = ofText.map(([name, feature]) => [correlation(values, feature), name]);
    return found.reduce((best, other) => (Math.abs(other[0]) > Math.abs(best[0]) ? other : best));
  };
  return { [`correlation of ${state} with what it fits best`]: closest, ...measures };
}

/** All units, in the order of a measure, each with its value. */
function sortedUnits(run, measure) {
  const all = Array.from({ length: run.units }, (_, unit) => {
    const [value, note] = measure ? measure(unit) : [NaN];
    return { unit, value, note };
  });
  return measure ? all.sort((a, b) => Math.abs(b.value) - Math.abs(a.value)) : all;
}

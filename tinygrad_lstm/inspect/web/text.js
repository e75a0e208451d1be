// The sequence, coloured; and the units, sorted by a measure.

const SYMBOLS = new Map([["\n", "↵"], ["\t", "⇥"], [" ", "␣"]]);

/** A token by itself, with spaces at its ends, control characters and other invisible characters made visible. */
function visible(token) {
  if (token === "") return "∅";
  const characters = [...token];
  const text = characters.map((character, k) => {
    const isWithin = k > 0 && k < characters.length - 1;
    const joins = k > 0 && (/\p{M}/u.test(character) || (isWithin && /[\u200c\u200d]/.test(character)));
    return joins || (isWithin && character === " ") ? character : visibleCharacter(character);
  }).join("");
  return /^\p{M}/u.test(text) ? `◌${text}` : text;
}

function visibleCharacter(character) {
  if (SYMBOLS.has(character)) return SYMBOLS.get(character);
  const code = character.codePointAt(0);
  if (code < 32) return String.fromCodePoint(0x2400 + code); // its picture
  const isHidden = /[\p{C}\p{Z}\p{DI}]/u.test(character);
  return isHidden ? `U+${code.toString(16).toUpperCase().padStart(4, "0")}` : character;
}

/** Whether tokens are read without gaps between them: characters of a text, but not names such as "<end>", or ids. */
const flows = (token) => trace.isText && Boolean(item.tokens) && /^.?\p{M}*$/su.test(token);

/** A token within the text, where line ends and spaces stay as they are. */
function inText(token) {
  if (token === "\n") return "↵\n";
  return token === "\t" || token === " " ? token : visible(token);
}

const OPENING = new Set("([{");
const CLOSING = new Set(")]}");

/** For each token of a text: its place in its line and word, the depth of brackets, and whether it is in quotes. */
function placesOf(tokens) {
  const [quotes, brackets, columns, words] = [[], [], [], []];
  let [inQuotes, depth, column, inWord] = [false, 0, 0, 0];
  for (const token of tokens) {
    if (token === '"') inQuotes = !inQuotes;
    if (token === "“" || token === "”") inQuotes = token === "“";
    if (OPENING.has(token)) depth += 1;
    if (CLOSING.has(token)) depth = Math.max(0, depth - 1);
    column = token === "\n" ? 0 : column + 1;
    inWord = /\p{L}|\p{N}/u.test(token) ? inWord + 1 : 0;
    quotes.push(Number(inQuotes));
    brackets.push(depth);
    columns.push(column);
    words.push(inWord);
  }
  return { quotes, brackets, columns, words };
}

/** Features of a text at each of its characters, to which units may correspond. */
function featuresOf(tokens) {
  const { quotes, brackets, columns, words } = placesOf(tokens);
  const matches = (pattern) => tokens.map((token) => Number(pattern.test(token)));
  return {
    "length of line so far": columns,
    "length of word so far": words,
    "inside quotes": quotes,
    "depth of brackets": brackets,
    "space or line's end": matches(/\s/),
    "capital letter": matches(/\p{Lu}/u),
    "vowel": matches(/[aeiouy]/i),
    "digit": matches(/\p{N}/u),
    "punctuation": matches(/\p{P}/u),
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

/** The correlation of two rows of numbers; 0 if one does not vary. */
function correlation(a, b) {
  const [meanA, varianceA] = moments(a);
  const [meanB, varianceB] = moments(b);
  let product = 0;
  for (let k = 0; k < a.length; k++) product += (a[k] - meanA) * (b[k] - meanB);
  const scale = Math.sqrt(varianceA * varianceB);
  return scale > 1e-12 ? product / a.length / scale : 0;
}

const columnOf = (quantity, unit, steps) => Float64Array.from({ length: steps }, (_, t) => quantity.at(t, unit));

const vary = ([, feature]) => moments(feature)[1] > 0;

/** Ways to sort units: each returns a unit's number, of which the largest size comes first, and a note. */
function measuresFor(run, tokens, isText) {
  const state = run.memory;
  const column = (name, u) => columnOf(run.quantity(name), u, run.steps);
  const ofText = isText ? Object.entries(featuresOf(tokens)).filter(vary) : [];
  const features = [["position in the sequence", tokens.map((_, t) => t)], ...ofText];
  const measures = {};
  if (ofText.length) {
    measures[`correlation of ${state} with its best match`] = (u) => {
      const values = column(state, u);
      const found = ofText.map(([name, feature]) => [correlation(values, feature), name]);
      return found.reduce((best, other) => (Math.abs(other[0]) > Math.abs(best[0]) ? other : best));
    };
  }
  measures[`variance of ${state}`] = (u) => [moments(column(state, u))[1]];
  const keeps = run.keeps?.[0];
  if (keeps) measures[`mean of ${keeps} (how long it remembers)`] = (u) => [moments(column(keeps, u))[0]];
  if (run.gradients[state]) {
    measures[`mean size of ∂L/∂${state}`] = (u) => [moments(column(`∂${state}`, u).map(Math.abs))[0]];
  }
  for (const [name, feature] of features.filter(vary)) {
    measures[`correlation of ${state} with: ${name}`] = (u) => [correlation(column(state, u), feature)];
  }
  measures["number"] = null;
  return measures;
}

/** All units, in the order of a measure, each with its value; NaNs at the end. */
function sortedUnits(run, measure) {
  const all = Array.from({ length: run.units }, (_, unit) => {
    const [value, note] = measure ? measure(unit) : [NaN];
    return { unit, value, note };
  });
  const size = ({ value }) => (Number.isNaN(value) ? -1 : Math.abs(value));
  return measure ? all.sort((a, b) => size(b) - size(a)) : all;
}

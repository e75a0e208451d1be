// The trace, as the page holds it: 16-bit numbers, decoded when they are first asked for.

const trace = JSON.parse(document.getElementById("trace").textContent);
const LARGEST = 32767;
const MISSING = -32768;

function bytesOf(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let k = 0; k < text.length; k++) bytes[k] = text.charCodeAt(k);
  return bytes;
}

function numbersOf(id) {
  return new Int16Array(bytesOf(document.getElementById(id).textContent.trim()).buffer);
}

/** Numbers in rows, each a multiple of its column's scale. */
class Linear {
  constructor(spec) {
    this.spec = spec;
    this.columns = spec.scale.length;
  }
  get raw() {
    return (this.decoded ??= numbersOf(this.spec.id));
  }
  at(row, column) {
    const number = this.raw[row * this.columns + column];
    return number === MISSING ? NaN : (number / LARGEST) * this.spec.scale[column];
  }
  largest(column) {
    return this.spec.scale[column];
  }
}

/** Numbers in rows, as a sign and a logarithm: gradients, which are of all magnitudes. */
class Logarithmic {
  constructor(spec) {
    this.spec = spec;
    this.columns = spec.columns;
  }
  get raw() {
    return (this.decoded ??= numbersOf(this.spec.id));
  }
  at(row, column) {
    const number = this.raw[row * this.columns + column];
    if (number === 0) return 0;
    if (number === MISSING) return NaN;
    const { low, high } = this.spec;
    return Math.sign(number) * 2 ** (low + ((Math.abs(number) - 1) / (LARGEST - 1)) * (high - low));
  }
}

/** Numbers computed from others; `spec` is that of numbers in the same range. */
class Derived {
  constructor(at, spec) {
    this.at = at;
    this.spec = spec;
  }
}

const unpacked = (spec) => (spec.low === undefined ? new Linear(spec) : new Logarithmic(spec));
const allUnpacked = (specs) => Object.fromEntries(Object.entries(specs).map(([name, spec]) => [name, unpacked(spec)]));

/** Values and gradients that the page does not store, computed from the others by a plain layer's equations. */
const DERIVED = {
  LSTM(run) {
    const { i, g, o, c } = run.values;
    const { c: ofC, h: ofH } = run.gradients;
    return {
      values: { h: new Derived((t, u) => o.at(t, u) * Math.tanh(c.at(t, u))) },
      gradients: ofC && {
        i: new Derived((t, u) => ofC.at(t, u) * g.at(t, u), ofC.spec),
        f: new Derived((t, u) => ofC.at(t, u) * run.before("c", t, u), ofC.spec),
        g: new Derived((t, u) => ofC.at(t, u) * i.at(t, u), ofC.spec),
        o: new Derived((t, u) => ofH.at(t, u) * Math.tanh(c.at(t, u)), ofH.spec),
      },
    };
  },
  GRU(run) {
    const { z, n } = run.values;
    const { h: ofH } = run.gradients;
    return {
      gradients: ofH && {
        z: new Derived((t, u) => ofH.at(t, u) * (run.before("h", t, u) - n.at(t, u)), ofH.spec),
        n: new Derived((t, u) => ofH.at(t, u) * (1 - z.at(t, u)), ofH.spec),
      },
    };
  },
};

/** One layer, in one direction, of one sequence of the batch. */
class Run {
  constructor(layer, item) {
    const packed = layer.items[item];
    this.layer = layer;
    this.table = trace.kinds[layer.kind] ?? null; // its kind in the table of kinds
    this.kind = layer.plain && this.table ? layer.kind : null; // the kind whose equations it has
    this.keeps = layer.keeps; // the gate that multiplies a state on its way to the next step, and that state, if any
    this.steps = packed.steps;
    this.units = layer.units.length;
    this.reverse = layer.reverse;
    this.values = allUnpacked(packed.values);
    this.gradients = allUnpacked(packed.gradients);
    this.parameters = allUnpacked(layer.parameters);
    this.inputs = packed.inputs ? unpacked(packed.inputs) : null;
    this.restarts = new Map(packed.restarts.steps.map((t, row) => [t, row]));
    this.begun = allUnpacked(packed.restarts.states);
    this.kept = new Map();
    const derived = DERIVED[this.kind]?.(this);
    Object.assign(this.values, derived?.values);
    Object.assign(this.gradients, derived?.gradients);
  }

  /** The last state, which is the memory. */
  get memory() {
    return Object.keys(this.begun).at(-1);
  }

  /** The step that was computed before step t; may be out of range. */
  previous(t) {
    return this.reverse ? t + 1 : t - 1;
  }
  next(t) {
    return this.reverse ? t - 1 : t + 1;
  }
  has(t) {
    return t >= 0 && t < this.steps;
  }
  /** The step that was computed last. */
  get end() {
    return this.reverse ? 0 : this.steps - 1;
  }

  /** A state before step t. */
  before(name, t, u) {
    const row = this.restarts.get(t);
    return row === undefined ? this.values[name].at(this.previous(t), u) : this.begun[name].at(row, u);
  }

  /** A value or, as "∂c", the gradient of one. */
  quantity(name) {
    return name.startsWith("∂") ? this.gradients[name.slice(1)] : this.values[name];
  }
  get names() {
    return [...Object.keys(this.values), ...Object.keys(this.gradients).map((name) => `∂${name}`)];
  }

  /** Whether the state after step t is the state before the next computed step, if that is in the page. */
  goesOn(t) {
    const next = this.next(t);
    return this.has(next) && !this.restarts.has(next);
  }

  /** The inputs of a unit's gates, by gate; null if the page does not store them. */
  nets(t, u) {
    if (!this.kind || !this.parameters.weight_ih || !this.inputs) return null;
    const { gates } = this.table;
    return Object.fromEntries(gates.map(({ name }, k) => [name, this.net(t, u, name, k * this.units + u)]));
  }

  /** For one row of the weights: its products with inputs and states, their sums, and the biases b and that of U·h. */
  net(t, u, gate, row) {
    const { weight_ih, weight_hh, bias } = this.parameters;
    const apart = this.parameters[this.table.apart[gate]]; // a bias that belongs to U·h
    const products = [];
    const sumOf = (of, weights, columns, valueAt) => {
      let sum = 0;
      for (let j = 0; j < columns; j++) {
        const [weight, value] = [weights.at(row, j), valueAt(j)];
        sum += weight * value;
        products.push({ of, j, weight, value, product: weight * value });
      }
      return sum;
    };
    const x = sumOf("x", weight_ih, weight_ih.columns, (j) => this.inputs.at(t, j));
    const h = sumOf("h", weight_hh, this.units, (j) => this.before("h", t, j));
    products.sort((a, b) => Math.abs(b.product) - Math.abs(a.product));
    return { x, h, b: bias.at(0, row), ofState: apart ? apart.at(0, u) : 0, largest: products.slice(0, 4) };
  }

  /** What `make` returns, called once for each key. */
  once(key, make) {
    if (!this.kept.has(key)) this.kept.set(key, make());
    return this.kept.get(key);
  }
}

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

/** Numbers in rows, each in steps of its column's scale. */
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

/** Numbers that follow from others; `spec` is that of numbers of the same range. */
class Derived {
  constructor(at, spec) {
    this.at = at;
    this.spec = spec;
  }
}

const unpacked = (spec) => (spec.low === undefined ? new Linear(spec) : new Logarithmic(spec));

/** One layer, in one direction, of one sequence of the batch. */
class Run {
  constructor(layer, item) {
    this.layer = layer;
    this.kind = layer.kind;
    this.steps = layer.items[item].steps;
    this.units = layer.units.length;
    this.reverse = layer.reverse;
    const packed = layer.items[item];
    this.values = {};
    for (const [name, spec] of Object.entries(packed.values)) this.values[name] = unpacked(spec);
    if (this.kind === "LSTM") {
      const { o, c } = this.values;
      this.values.h = new Derived((t, u) => o.at(t, u) * Math.tanh(c.at(t, u)));
    }
    this.gradients = {};
    for (const [name, spec] of Object.entries(packed.gradients)) this.gradients[name] = unpacked(spec);
    if (this.kind === "LSTM" && this.gradients.c) {
      const { i, g, c } = this.values;
      const { c: ofC, h: ofH } = this.gradients;
      this.gradients.i = new Derived((t, u) => ofC.at(t, u) * g.at(t, u), ofC.spec);
      this.gradients.f = new Derived((t, u) => ofC.at(t, u) * this.before("c", t, u), ofC.spec);
      this.gradients.g = new Derived((t, u) => ofC.at(t, u) * i.at(t, u), ofC.spec);
      this.gradients.o = new Derived((t, u) => ofH.at(t, u) * Math.tanh(c.at(t, u)), ofH.spec);
    }
    if (this.kind === "GRU" && this.gradients.h) {
      const { z, n } = this.values;
      const { h: ofH } = this.gradients;
      this.gradients.z = new Derived((t, u) => ofH.at(t, u) * (this.before("h", t, u) - n.at(t, u)), ofH.spec);
      this.gradients.n = new Derived((t, u) => ofH.at(t, u) * (1 - z.at(t, u)), ofH.spec);
    }
    this.restarts = new Map(packed.restarts.steps.map((t, row) => [t, row]));
    this.begun = {};
    for (const [name, spec] of Object.entries(packed.restarts.states)) this.begun[name] = unpacked(spec);
    this.inputs = packed.inputs ? unpacked(packed.inputs) : null;
    this.parameters = {};
    for (const [name, spec] of Object.entries(layer.parameters)) this.parameters[name] = unpacked(spec);
    this.cache = new Map();
  }

  /** The step that was computed before step t; it may lie outside. */
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

  /** What went into the gates of a unit: for each gate the products with inputs and state, and the bias. */
  nets(t, u) {
    const { weight_ih, weight_hh, bias, bias_hn } = this.parameters;
    if (!weight_ih || !this.inputs) return null;
    const gates = { LSTM: ["i", "f", "g", "o"], GRU: ["r", "z", "n"], RNN: ["h"] }[this.kind];
    const nets = {};
    gates.forEach((gate, k) => {
      const row = k * this.units + u;
      const from = [];
      let x = 0;
      let h = 0;
      for (let j = 0; j < weight_ih.columns; j++) {
        const part = weight_ih.at(row, j) * this.inputs.at(t, j);
        x += part;
        from.push(["x", j, weight_ih.at(row, j), this.inputs.at(t, j), part]);
      }
      for (let j = 0; j < this.units; j++) {
        const state = this.before("h", t, j);
        const part = weight_hh.at(row, j) * state;
        h += part;
        from.push(["h", j, weight_hh.at(row, j), state, part]);
      }
      from.sort((a, b) => Math.abs(b[4]) - Math.abs(a[4]));
      nets[gate] = { x, h, b: bias.at(0, row), b_hn: gate === "n" ? bias_hn.at(0, u) : 0, from: from.slice(0, 4) };
    });
    return nets;
  }

  /** What `make` gives, kept under a key. */
  kept(key, make) {
    if (!this.cache.has(key)) this.cache.set(key, make());
    return this.cache.get(key);
  }
}

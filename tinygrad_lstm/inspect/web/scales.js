// Numbers as text and as colours. Colour-blind readers can tell the colour scales apart.

/** The integer from 0 to size - 1 that is nearest to a number. */
const clamped = (number, size) => Math.max(0, Math.min(size - 1, number));

/** An integer as an exponent. */
const raised = (power) => String(power).replace(/[-−]/, "⁻").replace(/\d/g, (digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]);

const typeset = (text) => (/^-0\.?0*$/.test(text) ? text.slice(1) : text.replaceAll("-", "−"));
const powerOf = (size) => Math.floor(Math.log10(size));

/** A number with a power of ten. */
function scientific(number, digits = 3) {
  const text = number.toExponential(digits);
  return typeset(text).replace(/e[+]?([−]?\d+)/, (_, power) => (power === "0" ? "" : `·10${raised(power)}`));
}

/** A number with a true minus sign, with decimals if it is in a range, or else with a power of ten. */
function shown(number, decimals = 3) {
  if (Number.isNaN(number)) return "NaN";
  const size = Math.abs(number);
  const fits = size === 0 || (size < 1e5 && size >= 0.5 * 10 ** -decimals);
  return fits ? typeset(number.toFixed(decimals)) : scientific(number);
}

/** A number that others are computed from: at least four significant digits. */
function precise(number) {
  const size = Math.abs(number);
  if (size > 0 && size < 1e-3) return scientific(number);
  return shown(number, size < 0.1 && size > 0 ? 3 - powerOf(size) : 4);
}

/** A result: three decimals, or four digits if it is large. */
function rounded(number) {
  const size = Math.abs(number);
  return shown(number, size >= 10 ? Math.max(0, 3 - powerOf(size)) : 3);
}

/** The same, short enough for a drawing. */
const brief = (number) => (Math.abs(number) > 0 && Math.abs(number) < 5e-4 ? scientific(number, 1) : rounded(number));

/** Numbers within a sum and within a product. */
const signed = (number, write = precise) => (number < 0 ? `− ${write(-number)}` : `+ ${write(number)}`);
const inBrackets = (number, write = precise) => (number < 0 ? `(${write(number)})` : write(number));

/** 256 colours, evenly between those given. */
function gradation(anchors) {
  const colours = new Uint8Array(3 * 256);
  for (let k = 0; k < 256; k++) {
    const place = (k / 255) * (anchors.length - 1);
    const low = Math.min(Math.floor(place), anchors.length - 2);
    for (let j = 0; j < 3; j++) {
      colours[3 * k + j] = Math.round(anchors[low][j] + (place - low) * (anchors[low + 1][j] - anchors[low][j]));
    }
  }
  return colours;
}

// From dark blue to yellow, even in lightness: for values between 0 and 1.
const RISING = gradation([
  [0, 32, 81], [49, 68, 107], [102, 105, 112], [149, 143, 120], [203, 186, 105], [253, 231, 55],
]);
// From blue by the paper's colour to orange: for values of both signs.
const TWO_SIGNS = {
  light: gradation([[8, 69, 148], [107, 174, 214], [247, 247, 247], [244, 165, 96], [166, 54, 3]]),
  dark: gradation([[107, 174, 240], [33, 92, 150], [32, 36, 43], [166, 84, 30], [250, 176, 110]]),
};

const isDark = () => document.documentElement.dataset.theme === "dark";

/** A quantity's colour scale: from a value to a place between 0 and 1; the colours, and labels of their ends. */
function scaleOf(run, name, unit) {
  if (name.startsWith("∂")) return gradientScale(run.gradients[name.slice(1)].spec);
  if (run.layer.gates.includes(name)) {
    return { place: (value) => value, colours: RISING, ends: ["0, shut", "1, open"], note: "" };
  }
  const isBounded = run.kind !== null && (run.table.states.find((state) => state.name === name)?.bounded ?? true);
  const largest = isBounded ? 1 : run.quantity(name).largest(unit) || 1;
  return {
    place: (value) => (value / largest + 1) / 2,
    colours: TWO_SIGNS[isDark() ? "dark" : "light"],
    ends: [rounded(-largest), rounded(largest)],
    note: isBounded ? "" : OWN_RANGE,
  };
}

const OWN_RANGE = "this unit's range";
const POWERS_SHOWN = 30; // powers of two, from the largest gradient down

function gradientScale({ low, high }) {
  const bottom = high > low ? Math.max(low, high - POWERS_SHOWN) : high - 1;
  return {
    place: (value) => (value === 0 ? 0 : (Math.log2(Math.abs(value)) - bottom) / (high - bottom)),
    colours: RISING,
    ends: [scientific(2 ** bottom), scientific(2 ** high)],
    note: "size, on a logarithmic scale",
  };
}

/** The colour of a place between 0 and 1, as three numbers. */
function colourAt({ colours }, place) {
  const k = 3 * Math.max(0, Math.min(255, Math.round(255 * place)));
  return [colours[k], colours[k + 1], colours[k + 2]];
}

const linear = (channel) => (channel / 255) ** 2.2;
const EQUAL_CONTRAST = 0.179; // the luminance on which black and white are read equally well

/** Background and ink for a value; stripes for NaN. */
function paint(scale, value) {
  if (Number.isNaN(value)) return ["repeating-linear-gradient(45deg, #777 0 3px, #222 3px 6px)", "#fff"];
  const [r, g, b] = colourAt(scale, scale.place(value));
  const luminance = 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  return [`rgb(${r},${g},${b})`, luminance > EQUAL_CONTRAST ? "#000" : "#fff"];
}

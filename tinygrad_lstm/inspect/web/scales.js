// Numbers as text and as colours. The colour scales are told apart by readers who see no red, green or blue.

/** A whole number as an exponent. */
const raised = (power) => String(power).replace("-", "⁻").replace(/\d/g, (digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]);

/** A number with a true minus, in so many decimals, if it is of such a size; else with a power of ten. */
function shown(number, decimals = 3) {
  if (Number.isNaN(number)) return "NaN";
  const size = Math.abs(number);
  const fixed = decimals !== null && size < 1e5 && (size === 0 || size >= 0.5 * 10 ** -decimals);
  const text = fixed || size === 0
    ? number.toFixed(decimals ?? 0)
    : number.toExponential(3).replace(/e[+]?(-?\d+)/, (_, power) => (power === "0" ? "" : `·10${raised(power)}`));
  return /^-0\.?0*$/.test(text) ? text.slice(1) : text.replaceAll("-", "−");
}

/** The same, within a sum. */
const signed = (number, decimals) => (number < 0 ? `− ${shown(-number, decimals)}` : `+ ${shown(number, decimals)}`);
const inBrackets = (number, decimals) => (number < 0 ? `(${shown(number, decimals)})` : shown(number, decimals));

function table(anchors) {
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

// From dark blue to yellow, even in lightness: for what lies between 0 and 1.
const RISING = table([[0, 32, 81], [49, 68, 107], [102, 105, 112], [149, 143, 120], [203, 186, 105], [253, 231, 55]]);
// From blue by the paper's colour to orange: for what has two signs.
const TWO_SIGNS = {
  light: table([[8, 69, 148], [107, 174, 214], [247, 247, 247], [244, 165, 96], [166, 54, 3]]),
  dark: table([[107, 174, 240], [33, 92, 150], [32, 36, 43], [166, 84, 30], [250, 176, 110]]),
};

const isDark = () => document.documentElement.dataset.theme === "dark";

/** How a quantity is coloured: from a value to a place between 0 and 1, with a colour table and what to call its ends. */
function scaleOf(run, name, unit) {
  if (name.startsWith("∂")) {
    const { low, high } = run.gradients[name.slice(1)].spec;
    const bottom = Math.max(low, high - 30);
    const place = (value) => (value === 0 ? 0 : (Math.log2(Math.abs(value)) - bottom) / (high - bottom));
    return { place, colours: RISING, ends: [shown(2 ** bottom), shown(2 ** high)], note: "size, in powers of two" };
  }
  if (run.layer.gates.includes(name)) {
    return { place: (value) => value, colours: RISING, ends: ["0, shut", "1, open"], note: "" };
  }
  const largest = name === "c" || !["LSTM", "GRU", "RNN"].includes(run.kind) ? run.quantity(name).largest(unit) || 1 : 1;
  const colours = TWO_SIGNS[isDark() ? "dark" : "light"];
  return {
    place: (value) => (value / largest + 1) / 2,
    colours,
    ends: [shown(-largest, 2), shown(largest, 2)],
    note: largest === 1 ? "" : "this unit's range",
  };
}

/** The place in a colour table. */
const indexOf = (place) => 3 * Math.max(0, Math.min(255, Math.round(255 * (Number.isNaN(place) ? 0.5 : place))));

/** Background and ink for a value. */
function paint(scale, value) {
  const k = indexOf(scale.place(value));
  const [r, g, b] = [scale.colours[k], scale.colours[k + 1], scale.colours[k + 2]];
  const ink = 0.299 * r + 0.587 * g + 0.114 * b > 140 ? "#111" : "#fff";
  return [`rgb(${r},${g},${b})`, ink];
}

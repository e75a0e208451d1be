// Pieces of the document, and the ways out of it: the clipboard and files.

const byId = (id) => document.getElementById(id);

/** An element with children and with properties, or with attributes for names that are not properties. */
function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Fills a list of choices from pairs of a value and a label. */
function fillSelect(select, entries, value) {
  select.replaceChildren(...entries.map(([key, text]) => new Option(text, key)));
  select.value = value;
}

/** Colours the page as the list "theme" says, now and after each change, and repaints it. */
function followTheme(repaint) {
  const systemIsDark = window.matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const choice = byId("theme").value;
    const dark = choice === "dark" || (choice === "auto" && systemIsDark.matches);
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    repaint();
  };
  byId("theme").addEventListener("change", apply);
  systemIsDark.addEventListener("change", apply);
  apply();
}

/** Columns of numbers as a string, one row for each step; NaNs are left empty. */
function tableOf(series, steps, separator) {
  const quoted = (name) => (separator === "," ? `"${name.replaceAll('"', '""')}"` : name);
  const written = (value) => (Number.isNaN(value) ? "" : Number(value.toPrecision(6)));
  const rows = [["step", ...series.map(({ name }) => quoted(name))].join(separator)];
  for (let t = 0; t < steps; t++) {
    rows.push([stepName(t), ...series.map(({ values }) => written(values[t]))].join(separator));
  }
  return `${rows.join("\n")}\n`;
}

function download(name, content, type = "text/csv") {
  const link = element("a", { href: URL.createObjectURL(new Blob([content], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000); // when every browser has begun
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = element("textarea", { value: text }); // a page from a file may have no clipboard
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

/** Copies a string, and shows beside the button whether that was possible. */
async function copyText(text, button) {
  const said = button.nextElementSibling;
  said.textContent = (await copied(text)) ? "copied" : "the browser refuses to copy";
  button.focus();
  setTimeout(() => { said.textContent = ""; }, 3000);
}

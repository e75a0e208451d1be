// The page of the laboratory: it shows what the worker reports, and asks it for the rest.

const SAMPLED_EVERY = 50; // steps
const SAMPLE = 200; // characters
const READ = 400; // characters of the page of gates
const LONG_RUN = 1000; // steps: not thrown away without a question

const stepName = (t) => t; // for the chart
let run = null; // what is known of the run; null if there is none
let reports = [];
let isReady = false;
let isTraining = false;
let learnt = null; // the run's text; null if it is not known
let drawn = 0; // when the chart was drawn

// The worker

const worker = window.Worker && location.protocol !== "file:" ? new Worker("worker.js") : null;
const asked = new Map();
let questions = 0;

/** Asks the worker for something; an error is shown, and then the result is undefined. */
function ask(name, ...args) {
  const id = ++questions;
  return new Promise((resolve) => {
    asked.set(id, resolve);
    worker.postMessage({ id, name, args });
  });
}

const EVENTS = {
  loading({ what }) { byId("where").textContent = `loading ${what}`; },
  failed({ said }) {
    byId("where").textContent = "";
    complain(`The laboratory cannot be loaded: ${said}`);
  },
  ready({ status, said }) {
    isReady = true;
    if (status) take(status);
    show();
    say(said || (status ? "The browser has kept this run." : ""));
  },
  started({ status }) {
    reports = [];
    learnt = byId("text").value;
    byId("samples").replaceChildren();
    [byId("page").hidden, byId("page-link").hidden, byId("page-file").hidden] = [true, true, true];
    run = status;
    show();
  },
  resumed({ status }) {
    run = status;
    show();
  },
  trained({ status }) {
    const before = run.step;
    reports.push(...status.reports);
    run = status;
    show();
    const crossed = Math.floor(before / SAMPLED_EVERY) < Math.floor(run.step / SAMPLED_EVERY);
    if (crossed || status.finished) write();
  },
};

worker?.addEventListener("message", ({ data }) => {
  if (data.event) {
    EVENTS[data.event](data);
    return;
  }
  asked.get(data.id)(data.result);
  asked.delete(data.id);
  if (data.error) complain(data.error);
});
worker?.addEventListener("error", (event) => complain(`The laboratory cannot be loaded: ${event.message || "worker.js"}`));

// What is shown

function say(text) { byId("said").textContent = text ?? ""; }
function complain(text) { byId("wrong").textContent = text; }

/** Takes a run that the browser kept, or that was loaded from a file. */
function take(status) {
  run = status;
  reports = status.reports;
  learnt = status.text || null;
  if (learnt) setText(learnt);
  byId("seed").value = status.seed;
  byId("samples").replaceChildren();
  write();
}

const minutes = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.round(seconds) % 60).padStart(2, "0")}`;

/** Brings everything up to date. */
function show() {
  const idle = isReady && !isTraining;
  byId("train").disabled = !idle;
  byId("train").textContent = run ? "Train anew" : "Train";
  byId("train").classList.toggle("main", !run);
  byId("resume").hidden = !run;
  byId("resume").disabled = !idle;
  byId("stop").disabled = !isTraining;
  byId("again").hidden = !run;
  for (const id of ["write", "look", "save", "save-pytorch"]) byId(id).disabled = !isReady || !run;
  byId("load").disabled = !idle;
  byId("remove").disabled = !idle || !run;
  const done = run && run.step >= run.steps;
  byId("resume").textContent = done ? `Train ${byId("steps").value} steps more` : "Continue";
  byId("progress").value = run ? run.step / run.steps : 0;
  byId("described").textContent = run
    ? `Present model: ${run.cell}, ${run.hidden} units, ${run.parameters.toLocaleString("en")} parameters, `
      + `${run.characters} different characters, seed ${run.seed}.`
    : "";
  if (isReady) byId("where").textContent = run ? described(run, reports.at(-1)) : "ready";
  drawLosses(!isTraining);
}

/** How far the run is, with the digits of the command line. */
function described({ step, steps }, last) {
  const parts = [`step ${step}/${steps}`];
  if (last) parts.push(`loss ${last.loss.toFixed(3)} (${(last.loss / Math.LN2).toFixed(3)} bits)`);
  const validated = reports.findLast((report) => report.validation_loss !== null);
  if (validated) parts.push(`validation ${validated.validation_loss.toFixed(3)}`);
  if (last && isTraining) parts.push(`${minutes(last.seconds_left)} left`);
  return parts.join(" · ");
}

/** Values at some steps as values at all steps: on lines between them, and the last one from there on. */
function betweenReports(points, steps) {
  const values = new Float64Array(steps).fill(NaN);
  points.forEach(([step, value], k) => {
    const [from, start] = points[k - 1] ?? [step, value];
    for (let t = from; t <= step; t++) values[t] = start + (value - start) * (step === from ? 1 : (t - from) / (step - from));
  });
  const [last, value] = points.at(-1);
  return values.fill(value, last);
}

function drawLosses(now) {
  if (!reports.length || (!now && performance.now() - drawn < 500)) return;
  drawn = performance.now();
  const steps = reports.at(-1).step + 1;
  const validated = reports.filter((report) => report.validation_loss !== null);
  const series = [{ name: "training", values: betweenReports(reports.map(({ step, loss }) => [step, loss]), steps) }];
  if (validated.length) {
    const points = validated.map((report) => [report.step, report.validation_loss]);
    series.push({ name: "validation", values: betweenReports(points, steps) });
  }
  const goTo = lineChart(byId("loss-chart"), {
    series, steps, label: "The loss at each step, in nats a character", file: "losses.csv", pick: (t) => goTo(t),
  });
  goTo(steps - 1);
}

/** A new sample, above the earlier ones. */
async function write() {
  const sample = await ask("sample", byId("prompt").value, SAMPLE, Number(byId("temperature").value));
  if (!sample) return;
  const { step, prompt, text } = sample;
  const after = element("b", { textContent: `after ${step} steps` });
  const entry = element("li", {}, after, element("mark", { textContent: prompt }), text);
  byId("samples").querySelector(".hint")?.remove();
  byId("samples").prepend(entry);
}

// What one can do

function setText(text) {
  byId("text").value = text;
  count();
}

function count() {
  const characters = [...byId("text").value];
  byId("counted").textContent = `${characters.length.toLocaleString("en")} characters, ${new Set(characters).size} different`;
}

/** Trains by a command until it ends. */
async function training(name, ...args) {
  complain("");
  say("");
  isTraining = true;
  show();
  const ended = await ask(name, ...args);
  isTraining = false;
  show();
  if (ended) say(ended.finished ? `All ${run.steps} steps are done.` : `Stopped after step ${run.step}.`);
}

/** Whether the fields are filled in validly; if not, the browser says what is wrong. */
const isValid = (...ids) => ids.every((id) => byId(id).reportValidity());

/** Whether the run may be replaced. */
function isSure() {
  return !run || run.step < LONG_RUN || confirm(`The run of ${run.step} steps is replaced. Is that right?`);
}

function openedText(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes).replace(/\r\n?/g, "\n");
  } catch {
    complain("This file is not UTF-8 text. Save it as UTF-8, and open it again.");
    return null;
  }
}

async function saveWeights(names, file) {
  const bytes = await ask("weights", names);
  if (bytes) download(file, bytes, "application/octet-stream");
}

async function lookInside() {
  const unseen = learnt === null ? byId("text").value.slice(0, READ) : ""; // else a part of the run's text
  const bytes = await ask("page", byId("reading").value || unseen);
  if (!bytes) return;
  URL.revokeObjectURL(byId("page").src);
  const url = URL.createObjectURL(new Blob([bytes], { type: "text/html" }));
  for (const id of ["page-link", "page-file"]) [byId(id).href, byId(id).hidden] = [url, false];
  [byId("page").src, byId("page").hidden] = [url, false];
}

function listen(id, event, action) { byId(id).addEventListener(event, action); }

listen("text", "input", count);
listen("steps", "input", show);
listen("file", "change", async ({ target }) => {
  const text = target.files.length ? openedText(await target.files[0].arrayBuffer()) : null;
  if (text !== null) {
    complain("");
    setText(text);
  }
  target.value = "";
});
listen("manual", "click", loadManual);
listen("train", "click", () => {
  if (!isValid("steps", "seed", "rate")) return;
  const continued = run !== null && byId("continued").checked;
  if (!continued && !isSure()) return;
  const value = (id) => byId(id).value;
  training("start", value("text"), value("size"), value("cell"), Number(value("steps")), Number(value("seed")),
    value("rate") === "" ? null : Number(value("rate")), continued);
});
listen("resume", "click", () => {
  if (!isValid("steps")) return;
  const text = byId("text").value;
  training("resume", Number(byId("steps").value), text);
  if (learnt !== null && text !== learnt) say("The run continues with its own text. Train anew to learn the text above.");
});
listen("stop", "click", () => {
  byId("stop").disabled = true;
  ask("stop");
});
listen("write", "click", () => { if (isValid("temperature")) write(); });
listen("look", "click", lookInside);
listen("save", "click", () => saveWeights("checkpoint", "laboratory.safetensors"));
listen("save-pytorch", "click", () => saveWeights("pytorch", "pytorch.safetensors"));
listen("load", "change", async ({ target }) => {
  complain("");
  const status = target.files.length ? await ask("load", new Uint8Array(await target.files[0].arrayBuffer())) : null;
  if (status) {
    take(status);
    show();
    say("The weights are loaded.");
  }
  target.value = "";
});
listen("remove", "click", async () => {
  if (!isSure()) return;
  await ask("remove");
  [run, reports] = [null, []];
  byId("samples").replaceChildren();
  byId("loss-chart").replaceChildren();
  show();
  say("The run is forgotten.");
});

async function loadManual() {
  const response = await fetch("manual.txt");
  setText(await response.text());
}

followTheme(() => drawLosses(true));
if (worker) loadManual();
else {
  byId("where").textContent = "";
  complain("A browser runs the laboratory only from a server. Run make lab-serve, and open http://127.0.0.1:8000");
}

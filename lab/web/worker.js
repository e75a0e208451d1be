// The worker: Python, NumPy and the library, apart from the page, which so stays alive while a model is trained.
// It answers each command {id, name, args} with {id, result} or {id, error}, and reports on its own with {event, ...}.

importScripts("pyodide/pyodide.js");

const FOLDER = "/runs"; // the browser keeps it, in IndexedDB
const KEPT_EVERY = 5000; // ms

let python = null;
let laboratory = null;
let isStopped = true;
let isKept = false; // another tab may keep its run already

const report = (event, content = {}) => postMessage({ event, ...content });
const nextTask = () => new Promise((resolve) => setTimeout(resolve)); // messages come in meanwhile

/** Reads the folder from the browser's database, or writes it there. */
function synchronized(reads) {
  if (!isKept) return Promise.resolve();
  return new Promise((resolve, reject) => {
    python.FS.syncfs(reads, (error) => (error ? reject(new Error(`the browser keeps nothing: ${error}`)) : resolve()));
  });
}

/** Whether this tab, and no other, keeps its run: held until the tab is closed. */
function isOnlyTab() {
  if (!navigator.locks) return Promise.resolve(true);
  return new Promise((resolve) => {
    navigator.locks.request("tinygrad_lstm laboratory", { ifAvailable: true }, (lock) => {
      resolve(lock !== null);
      return lock && new Promise(() => {});
    });
  });
}

async function bytesOf(file) {
  const response = await fetch(file);
  if (!response.ok) throw new Error(`${file} cannot be loaded: ${response.status}`);
  return response.arrayBuffer();
}

async function load() {
  report("loading", { what: "Python" });
  python = await loadPyodide({ indexURL: "pyodide/" });
  report("loading", { what: "NumPy" });
  await python.loadPackage("numpy", { messageCallback: () => {} });
  report("loading", { what: "the library" });
  python.unpackArchive(await bytesOf("tinygrad_lstm.zip"), "zip");
  python.FS.writeFile("laboratory.py", new Uint8Array(await bytesOf("laboratory.py")));
  python.FS.mkdir(FOLDER);
  python.FS.mount(python.FS.filesystems.IDBFS, {}, FOLDER);
  isKept = await isOnlyTab();
  let said = isKept ? "" : "A laboratory is open in a different tab: what this one does is not kept.";
  try {
    await synchronized(true);
  } catch (error) {
    [isKept, said] = [false, error.message];
  }
  laboratory = python.pyimport("laboratory").Laboratory(`${FOLDER}/laboratory`);
  let status = null;
  try {
    status = JSON.parse(laboratory.status());
  } catch (error) {
    said = `The run that the browser kept cannot be read: ${messageOf(error)}`;
  }
  report("ready", { status, said });
}

/** The last line of a Python error without its type; or an error's message. */
function messageOf(error) {
  const line = error.message.trim().split("\n").filter((text) => /^[\w.]+(: |$)/.test(text)).at(-1);
  return (error.type && line ? line.replace(/^[\w.]+: /, "") : error.message) || "an unknown error";
}

/** Trains until the end or until it is stopped, and reports. */
async function train() {
  isStopped = false;
  let finished = false;
  let kept = performance.now();
  while (!isStopped && !finished) {
    const status = JSON.parse(laboratory.advance());
    finished = status.finished;
    report("trained", { status });
    if (performance.now() - kept > KEPT_EVERY) {
      await synchronized(false);
      kept = performance.now();
    }
    await nextTask();
  }
  isStopped = true;
  await synchronized(false);
  return { finished };
}

/** A copy of Python's bytes. */
function asBytes(proxy) {
  const bytes = proxy.toJs();
  proxy.destroy();
  return bytes;
}

const COMMANDS = {
  async start(...options) {
    report("started", { status: JSON.parse(laboratory.start(...options)) });
    return train();
  },
  async resume(more, text) {
    report("resumed", { status: JSON.parse(laboratory.resume(more, text)) });
    return train();
  },
  stop() { isStopped = true; },
  sample: (prompt, length, temperature) => JSON.parse(laboratory.sample(prompt, length, temperature)),
  page: (text) => asBytes(laboratory.page(text)),
  weights: (names) => asBytes(laboratory.weights(names)),
  async load(bytes) {
    const status = JSON.parse(laboratory.load(python.toPy(bytes)));
    await synchronized(false);
    return status;
  },
  async remove() {
    laboratory.remove();
    await synchronized(false);
  },
};

const loaded = load().catch((error) => report("failed", { said: messageOf(error) }));

addEventListener("message", async ({ data: { id, name, args } }) => {
  try {
    await loaded;
    postMessage({ id, result: await COMMANDS[name](...args) });
  } catch (error) {
    isStopped = true;
    postMessage({ id, error: messageOf(error) });
  }
});

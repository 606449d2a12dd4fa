// The benchmark's page: a plan in, rows out.
const form = document.querySelector("#plan");
const button = form.querySelector("button");
const status = document.querySelector("#status");
const table = document.querySelector("table");
const body = table.tBodies[0];
const number = new Intl.NumberFormat("en");
const milliseconds = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const values = new FormData(form);
  const plan = {
    dim: Number(values.get("dim")),
    runs: Number(values.get("runs")),
    schemes: values.getAll("scheme"),
  };
  if (plan.schemes.length === 0) {
    status.textContent = "Choose at least one scheme.";
    return;
  }
  body.replaceChildren();
  table.hidden = false;
  button.disabled = true;
  status.textContent = "Running…";

  // A worker for each run: its memory ends with it.
  const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  const finish = (text) => {
    worker.terminate();
    button.disabled = false;
    status.textContent = text;
  };
  worker.onerror = ({ message }) => finish(`It stopped: ${message || "the benchmark could not be loaded"}.`);
  worker.onmessage = ({ data }) => {
    if (data.row) add(data.row);
    else finish(data.error ? `It stopped: ${data.error}.` : "Done.");
  };
  worker.postMessage(plan);
});

function add(row) {
  const line = body.insertRow();
  line.dataset.scheme = row.scheme;
  line.dataset.step = row.step;
  line.dataset.ms = row.median_ms;
  for (const text of [
    row.scheme,
    row.step,
    number.format(row.dim),
    milliseconds.format(row.median_ms),
    number.format(row.bytes),
    number.format(row.peak_bytes),
  ]) {
    line.insertCell().textContent = text;
  }
}

// The way to a node: bytes there, bytes back.
const form = document.querySelector("#way");
const button = form.querySelector("button");
const status = document.querySelector("#way-status");
const number = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

let endpoint;
async function start() {
  if (!endpoint) {
    const light = await import("/light/wasm/light.js");
    await light.default();
    endpoint = new light.Endpoint();
  }
  return endpoint;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const values = new FormData(form);
  const megabytes = Number(values.get("megabytes"));
  button.disabled = true;
  delete status.dataset.done;
  const said = [];
  try {
    const way = await start();
    for (const up of [true, false]) {
      status.textContent = [...said, up ? "Sending…" : "Fetching…"].join(" ");
      const began = performance.now();
      const equal = await way.measure(values.get("address"), up, megabytes * 1e6);
      const rate = (megabytes * 1e3) / (performance.now() - began);
      status.dataset[up ? "up" : "down"] = rate;
      said.push(`${up ? "Sent" : "Fetched"} ${megabytes} MB at ${number.format(rate)} MB/s${equal ? "" : ", and they differ"}.`);
      if (!equal) break;
    }
    status.dataset.done = said.length === 2 && !said.some((text) => text.includes("differ"));
  } catch (error) {
    said.push(`It stopped: ${error.message}.`);
    status.dataset.done = false;
  }
  status.textContent = said.join(" ");
  button.disabled = false;
});

// Runs the benchmark off the page's own thread.
import init, { run } from "./wasm/bench.js";

onmessage = async ({ data: plan }) => {
  try {
    await init();
    run(plan, (row) => postMessage({ row }));
    postMessage({ done: true });
  } catch (error) {
    postMessage({ error: String(error?.message ?? error) });
  }
};

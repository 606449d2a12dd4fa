import { csvOf } from "./compute.js";
import { asLightError, LightError } from "./error.js";
import { webrtcTo } from "./paths.js";
import type { NodeView, Prediction, Rows, Score, Scores, TaskView } from "./types.js";
import type { Light } from "./wasm.js";

/** What to ask, and of whom: the nodes are tried in this order. */
export interface Asking {
  task: string;
  view: TaskView;
  rows: Rows;
  nodes: NodeView[];
  onScore: (score: Score) => void;
  signal: AbortSignal;
}

/** Codes that another node would answer with too. */
const FINAL = new Set(["bad-data", "malformed", "wrong-task", "bad-manifest", "bad-specification", "unsuitable-model", "no-webrtc", "cancelled"]);

/** Asks the first of the nodes that answers. */
export async function score(light: Light, asking: Asking): Promise<Scores> {
  const csv = await csvOf(light, asking.rows);
  let last = new LightError("unreachable", "No full node of this task can be reached. Try again later.");
  for (const node of asking.nodes) {
    try {
      return await ask(light, asking, node, csv);
    } catch (thrown) {
      last = asLightError(thrown);
      if (asking.signal.aborted) throw new LightError("aborted", "Stopped.");
      if (FINAL.has(last.code)) break;
    }
  }
  throw last;
}

async function ask(light: Light, asking: Asking, node: NodeView, csv: Uint8Array): Promise<Scores> {
  const { task, view, onScore, signal } = asking;
  const { endpoint, address } = webrtcTo(light, node);
  const over = new AbortController();
  const cancelled = new Promise<boolean>((resolve) => {
    if (signal.aborted) resolve(false);
    signal.addEventListener("abort", () => resolve(false), { once: true, signal: over.signal });
  });
  const scores: Score[] = [];
  let model = "";
  let since = 0;
  const offered = (digest: string): void => {
    model = digest;
    since = performance.now();
  };
  const answered = (prediction: Prediction): void => {
    const now = performance.now();
    const score = { ...prediction, row: scores.length + 1, ms: now - since };
    since = now;
    scores.push(score);
    onScore(score);
  };
  try {
    await endpoint.score(address, JSON.stringify(view.signed), task, csv, offered, answered, cancelled);
  } finally {
    over.abort();
  }
  return { task, node: node.name, model, newest: model === view.currentModel, scores };
}

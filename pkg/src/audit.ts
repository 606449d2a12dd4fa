import type { Api } from "./api.js";
import type { Audited, TaskView } from "./types.js";
import type { Light } from "./wasm.js";

/** What is audited. */
export interface Auditing {
  task: string;
  view: TaskView;
  round: number;
  blocks: number | undefined;
  signal: AbortSignal;
}

const BLOCKS = 3;

/** Fetches the round's record and a few blocks, and adds them up again. */
export async function audit(light: Light, api: Api, auditing: Auditing): Promise<Audited> {
  const { task: id, view, round, blocks = BLOCKS, signal } = auditing;
  const started = performance.now();
  const task = new light.Task(JSON.stringify(view.signed), id);
  try {
    const record = await api.record(id, round, signal);
    const work = task.audit(round, JSON.stringify(record), Math.max(1, Math.trunc(blocks)));
    try {
      let bytes = 0;
      let fraud: Audited["fraud"] = null;
      for (const block of work.blocks) {
        const served = await api.block(id, round, block, signal);
        bytes += served.length;
        const { verdict, fraud: what } = work.judge(block, served) as { verdict: "right" | "wrong"; fraud?: string };
        if (verdict === "wrong") {
          fraud = { block, what: what ?? "", proof: served };
          break;
        }
      }
      return {
        task: id, round, record: work.record, blocks: [...work.blocks], ofBlocks: work.ofBlocks, parties: work.parties, bytes,
        ms: performance.now() - started, fraud,
      };
    } finally {
      work.free();
    }
  } finally {
    task.free();
  }
}

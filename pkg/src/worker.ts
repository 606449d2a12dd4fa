import { check, prepare, type Job, type Results } from "./compute.js";
import { asLightError, plain, type PlainError } from "./error.js";
import type { LightEvent } from "./types.js";
import { startLight } from "./wasm.js";

/** Page to worker, once. */
export interface Order {
  module: WebAssembly.Module;
  job: Job;
}

/** Worker to page: events, then one of the other two. */
export type Note =
  | { kind: "event"; event: LightEvent }
  | { kind: "done"; result: Results[keyof Results] }
  | { kind: "failed"; error: PlainError };

interface WorkerScope {
  onmessage: ((message: MessageEvent<Order>) => void) | null;
  postMessage(note: Note, transfer?: Transferable[]): void;
}

const scope = globalThis as unknown as WorkerScope;

scope.onmessage = ({ data }) => {
  work(data).catch((thrown: unknown) => {
    scope.postMessage({ kind: "failed", error: plain(asLightError(thrown)) });
  });
};

async function work({ module, job }: Order): Promise<void> {
  const light = await startLight(module);
  if (job.kind === "check") {
    scope.postMessage({ kind: "done", result: await check(light, job) });
  } else {
    const result = await prepare(light, job, (event) => scope.postMessage({ kind: "event", event }));
    scope.postMessage({ kind: "done", result }, [result.bytes.buffer]);
  }
}

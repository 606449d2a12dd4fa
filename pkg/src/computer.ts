import { check, prepare, type Job, type Results } from "./compute.js";
import { asLightError, LightError } from "./error.js";
import type { LightEvent } from "./types.js";
import { lightModule, loadLight } from "./wasm.js";
import type { Note, Order } from "./worker.js";

export interface ComputeOptions {
  onEvent?: (event: LightEvent) => void;
  signal?: AbortSignal | undefined;
}

/** What a stopped computation rejects with. */
export function stopped(): LightError {
  return new LightError("aborted", "Stopped before anything was sent.");
}

/**
 * Runs a job in a worker of its own, so that stopping it is ending the worker and nothing it held
 * stays in memory. Where there are no workers, as in Node.js, it runs on this thread.
 */
export async function compute<J extends Job>(job: J, options: ComputeOptions = {}): Promise<Results[J["kind"]]> {
  const { onEvent = () => {}, signal } = options;
  if (signal?.aborted) throw stopped();
  if (typeof Worker === "undefined") {
    try {
      const light = await loadLight();
      const result = job.kind === "check" ? await check(light, job) : await prepare(light, job, onEvent);
      return result as Results[J["kind"]];
    } catch (thrown) {
      throw asLightError(thrown);
    }
  }
  const order: Order = { module: await lightModule(), job };
  if (signal?.aborted) throw stopped();
  const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  return new Promise<Results[J["kind"]]>((resolve, reject) => {
    const stop = (): void => end(() => reject(stopped()));
    const end = (settle: () => void): void => {
      worker.terminate();
      signal?.removeEventListener("abort", stop);
      settle();
    };
    signal?.addEventListener("abort", stop);
    worker.onmessage = ({ data }: MessageEvent<Note>) => {
      if (data.kind === "event") onEvent(data.event);
      else if (data.kind === "done") end(() => resolve(data.result as Results[J["kind"]]));
      else end(() => reject(asLightError(data.error)));
    };
    worker.onerror = (event) => {
      const why = event.message || "its script did not load";
      end(() => reject(new LightError("no-worker", `The light node's worker failed (${why}). Load the page again.`)));
    };
    worker.postMessage(order);
  });
}

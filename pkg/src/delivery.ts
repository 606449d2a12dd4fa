import { asLightError, LightError } from "./error.js";
import type { FollowOptions, LightEvent, Path } from "./types.js";
import type { Light } from "./wasm.js";

/** Why a try was given up: its path does not work. */
export const BROKEN = "broken";

/** One try over one path. */
export interface Attempt {
  /** Fires when the try is given up. */
  signal: AbortSignal;
  connected(): void;
  progress(resumedFrom: number, sent: number, total: number): void;
}

/** The paths; each gives the verdict's code (0: stored) or throws a `LightError`. */
export type Paths = Record<Path, (attempt: Attempt) => Promise<number>>;

/** What is delivered, and to whom. */
export interface Parcel {
  /** Name of the leader. */
  node: string;
  /** Whether the leader has a WebRTC address. */
  webrtc: boolean;
  bytes: number;
  round: number;
  deadlineMs: number;
}

export interface Delivered {
  path: Path;
  because: string | null;
}

/** What `Delivery` in the wasm says to do; see `defim_light::delivery::Output`. */
type Output =
  | { kind: "try"; path: Path; because: string | null }
  | { kind: "wait"; until: number; because: string }
  | { kind: "delivered"; path: Path; because: string | null }
  | { kind: "refused"; code: string; message: string };

/** See `defim_light::delivery::Input`. */
type Input =
  | { kind: "connected"; path: Path }
  | { kind: "progress" }
  | { kind: "failed"; path: Path; code: string; message: string }
  | { kind: "verdict"; path: Path; code: number }
  | { kind: "tick" }
  | { kind: "retry" };

/** Delivers a report: the wasm decides, this does what it says. */
export function deliver(light: Light, parcel: Parcel, paths: Paths, options: FollowOptions = {}): Promise<Delivered> {
  const { onEvent = () => {}, signal } = options;
  return new Promise((resolve, reject) => {
    const started = performance.now();
    const delivery = new light.Delivery(parcel.node, parcel.webrtc);
    let current: AbortController | undefined;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let over = false;

    const finish = (settle: () => void): void => {
      over = true;
      clearTimeout(timer);
      current?.abort();
      signal?.removeEventListener("abort", stop);
      globalThis.removeEventListener?.("online", retry);
      delivery.free();
      settle();
    };
    const stop = (): void => {
      const text = "Stopped. The sealed report is kept on this device and can be sent until its round closes.";
      finish(() => reject(new LightError("aborted", text)));
    };
    const retry = (): void => feed({ kind: "retry" });

    const feed = (input: Input): void => {
      if (over) return;
      try {
        delivery.handle(Date.now(), JSON.stringify(input));
        for (let text = delivery.poll(); text !== undefined; text = delivery.poll()) {
          obey(JSON.parse(text) as Output);
          if (over) return;
        }
        clearTimeout(timer);
        const due = delivery.nextTick();
        if (due !== undefined) timer = setTimeout(() => feed({ kind: "tick" }), Math.max(0, due - Date.now()));
      } catch (thrown) {
        finish(() => reject(asLightError(thrown)));
      }
    };

    const obey = (output: Output): void => {
      switch (output.kind) {
        case "try":
          onEvent({ kind: "path", path: output.path, because: output.because, node: parcel.node });
          attempt(output.path);
          break;
        case "wait":
          current?.abort(BROKEN);
          if (Date.now() > parcel.deadlineMs) {
            const text = `Round ${parcel.round} closed before full node ${parcel.node} took the report. Take part in the next one.`;
            finish(() => reject(new LightError("too-late", text)));
          } else {
            onEvent({ kind: "kept", retryMs: Math.max(0, output.until - Date.now()), because: output.because });
          }
          break;
        case "delivered": {
          const { path, because } = output;
          const sent: LightEvent = { kind: "step", step: "sent", ms: performance.now() - started, bytes: parcel.bytes, path, because };
          finish(() => {
            onEvent(sent);
            resolve({ path, because });
          });
          break;
        }
        case "refused":
          finish(() => reject(new LightError(output.code, output.message)));
          break;
      }
    };

    const attempt = (path: Path): void => {
      current?.abort(BROKEN);
      const mine = new AbortController();
      current = mine;
      const since = performance.now();
      // A path that was given up may still call back; only its verdict counts then.
      const live = (): boolean => !over && current === mine;
      const handed: Attempt = {
        signal: mine.signal,
        connected: () => {
          if (!live()) return;
          onEvent({ kind: "connected", path, ms: performance.now() - since });
          feed({ kind: "connected", path });
        },
        progress: (resumedFrom, sent, total) => {
          if (!live()) return;
          onEvent({ kind: "upload", sent, total, resumedFrom });
          feed({ kind: "progress" });
        },
      };
      paths[path](handed).then(
        (code) => feed({ kind: "verdict", path, code }),
        (thrown: unknown) => {
          if (!live()) return;
          const { code, message } = asLightError(thrown);
          feed({ kind: "failed", path, code, message });
        },
      );
    };

    if (signal?.aborted) return stop();
    signal?.addEventListener("abort", stop);
    // A device that comes back online need not wait out its back-off.
    globalThis.addEventListener?.("online", retry);
    feed({ kind: "tick" });
  });
}

import { BROKEN, type Attempt, type Paths } from "./delivery.js";
import { LightError } from "./error.js";
import type { NodeView } from "./types.js";
import type { Endpoint } from "../wasm/light.js";
import type { Light } from "./wasm.js";

/** A sealed report and where it goes. */
export interface Sealed {
  task: string;
  report: string;
  bytes: Uint8Array<ArrayBuffer>;
}

let endpoint: Endpoint | undefined;

/** The node's WebRTC-direct address, if it has one. */
export function webrtcAddress(node: Pick<NodeView, "addresses">): string | undefined {
  return node.addresses.find((address) => address.includes("/webrtc-direct/"));
}

/** Both ways to a leader. `locate` gives its addresses, anew after a failure. */
export function pathsTo(light: Light, locate: () => Promise<{ node: NodeView; http: string }>, sealed: Sealed): Paths {
  return {
    webrtc: async (attempt) => overWebrtc(light, (await locate()).node, sealed, attempt),
    https: async (attempt) => overHttps(light, (await locate()).http, sealed, attempt),
  };
}

async function overWebrtc(light: Light, node: NodeView, sealed: Sealed, attempt: Attempt): Promise<number> {
  if (typeof RTCPeerConnection === "undefined") {
    throw new LightError("no-webrtc", `this ${typeof document === "undefined" ? "runtime" : "browser"} has no WebRTC`);
  }
  const address = webrtcAddress(node);
  if (address === undefined) throw new LightError("unreachable", `${node.name} has no peer-to-peer address`);
  // One for the life of the page: callbacks of an endpoint that was dropped may still fire.
  endpoint ??= new light.Endpoint();
  // Only a path that did not work takes its connection with it; a person who stops may go on over the same one.
  const cancelled = new Promise<boolean>((resolve) => {
    attempt.signal.addEventListener("abort", () => resolve(attempt.signal.reason === BROKEN), { once: true });
  });
  const { task, report, bytes } = sealed;
  const verdict = await endpoint.uploadWebrtc(address, task, report, bytes, attempt.connected, attempt.progress, cancelled);
  return (verdict as { code: number }).code;
}

async function overHttps(light: Light, http: string, sealed: Sealed, attempt: Attempt): Promise<number> {
  const total = sealed.bytes.length;
  attempt.progress(0, 0, total);
  let response: Response;
  try {
    response = await fetch(`${http}/tasks/${sealed.task}/reports`, {
      method: "PUT",
      headers: { "content-type": "application/dap-report" },
      body: sealed.bytes,
      signal: attempt.signal,
    });
  } catch {
    throw new LightError("unreachable", `no connection to ${http}`);
  }
  if (response.ok) {
    attempt.progress(0, total, total);
    return 0;
  }
  const problem = (await response.json().catch(() => ({}))) as { code?: unknown; detail?: unknown };
  const slug = response.status === 413 ? "too-large" : problem.code;
  const code = typeof slug === "string" ? light.reasonCode(slug) : undefined;
  if (code !== undefined) return code;
  const detail = typeof problem.detail === "string" ? problem.detail : `it answered with HTTP status ${response.status}`;
  throw new LightError("broken", detail);
}

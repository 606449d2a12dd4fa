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
  mediaType?: string | undefined;
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

/** The page's endpoint, and the node's address for it. */
export function webrtcTo(light: Light, node: NodeView): { endpoint: Endpoint; address: string } {
  if (typeof RTCPeerConnection === "undefined") {
    throw new LightError("no-webrtc", `this ${typeof document === "undefined" ? "runtime" : "browser"} has no WebRTC`);
  }
  const address = webrtcAddress(node);
  if (address === undefined) throw new LightError("unreachable", `${node.name} has no peer-to-peer address`);
  // One for the life of the page: callbacks of an endpoint that was dropped may still fire.
  endpoint ??= new light.Endpoint();
  return { endpoint, address };
}

/** How long a node may take to answer before it counts as away. */
const REACH_MS = 5_000;

/** Whether this device reaches a node, over one way or the other. */
export async function reaches(light: Light, node: NodeView, http: string, signal: AbortSignal): Promise<boolean> {
  const late = AbortSignal.timeout(REACH_MS);
  const overHttps = async (): Promise<void> => {
    const { status } = await fetch(`${http}/hpke_config`, { signal: AbortSignal.any([signal, late]) });
    // A proxy's word that the node behind it is away.
    if (status >= 500) throw new LightError("unreachable", `HTTP status ${status}`);
  };
  const overWebrtc = async (): Promise<void> => {
    const { endpoint, address } = webrtcTo(light, node);
    const given = new Promise<never>((_, reject) => late.addEventListener("abort", reject, { once: true }));
    await Promise.race([endpoint.reach(address), given]);
  };
  const reached = await Promise.any([overHttps(), overWebrtc()]).then(() => true, () => false);
  if (signal.aborted) throw new LightError("aborted", "Stopped before anything was sent.");
  return reached;
}

async function overWebrtc(light: Light, node: NodeView, sealed: Sealed, attempt: Attempt): Promise<number> {
  const { endpoint, address } = webrtcTo(light, node);
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
  let answer: Answer;
  try {
    answer = await put(`${http}/tasks/${sealed.task}/reports`, sealed.mediaType ?? TWO_SHARES, sealed.bytes, attempt);
  } catch {
    throw new LightError("unreachable", `no connection to ${http}`);
  }
  if (answer.status >= 200 && answer.status < 300) {
    attempt.progress(0, total, total);
    return 0;
  }
  const problem = problemIn(answer.text);
  const slug = answer.status === 413 ? "too-large" : problem.code;
  const code = typeof slug === "string" ? light.reasonCode(slug) : undefined;
  if (code !== undefined) return code;
  const detail = typeof problem.detail === "string" ? problem.detail : `it answered with HTTP status ${answer.status}`;
  throw new LightError("broken", detail);
}

interface Answer {
  status: number;
  text: string;
}

/** Of a report of two shares. */
const TWO_SHARES = "application/dap-report";

/** One request with the whole report. Only `XMLHttpRequest` tells how far it is, and Node.js has none. */
async function put(url: string, type: string, body: Uint8Array<ArrayBuffer>, attempt: Attempt): Promise<Answer> {
  if (typeof XMLHttpRequest === "undefined") {
    const response = await fetch(url, { method: "PUT", headers: { "content-type": type }, body, signal: attempt.signal });
    return { status: response.status, text: await response.text() };
  }
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", url);
    request.setRequestHeader("content-type", type);
    let started = false;
    request.upload.onprogress = ({ loaded }) => {
      if (!started) attempt.connected();
      started = true;
      // What has left this device; only the answer says that the node has it.
      attempt.progress(0, Math.min(loaded, body.length), body.length);
    };
    request.onload = () => resolve({ status: request.status, text: request.responseText });
    request.onerror = request.onabort = () => reject(new Error("the request failed"));
    attempt.signal.addEventListener("abort", () => request.abort(), { once: true });
    request.send(body);
  });
}

function problemIn(text: string): { code?: unknown; detail?: unknown } {
  try {
    return (JSON.parse(text) ?? {}) as { code?: unknown; detail?: unknown };
  } catch {
    return {};
  }
}

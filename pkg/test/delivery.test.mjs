import assert from "node:assert/strict";
import { test } from "node:test";
import { deliver } from "../dist/delivery.js";
import { LightError } from "../dist/index.js";
import { light } from "./light.mjs";

const parcel = { node: "full-1", webrtc: true, bytes: 1000, round: 3, deadlineMs: Date.now() + 60_000 };

function run(paths, change = {}, options = {}) {
  const events = [];
  const result = deliver(light, { ...parcel, ...change }, paths, { ...options, onEvent: (event) => events.push(event) });
  return { events, result };
}

const fail = (code, message) => async () => {
  throw new LightError(code, message);
};
const never = () => new Promise(() => {});

test("in the wasm: a browser that refuses goes to HTTPS at once", () => {
  const delivery = new light.Delivery("full-1", true);
  delivery.handle(0, JSON.stringify({ kind: "tick" }));
  assert.deepEqual(JSON.parse(delivery.poll()), { kind: "try", path: "webrtc", because: null });
  assert.equal(delivery.nextTick(), 5_000);
  const message = "this browser does not allow the peer-to-peer connection";
  delivery.handle(20, JSON.stringify({ kind: "failed", path: "webrtc", code: "refused-by-browser", message }));
  assert.deepEqual(JSON.parse(delivery.poll()), { kind: "try", path: "https", because: message });
  delivery.handle(30, JSON.stringify({ kind: "failed", path: "https", code: "unreachable", message: "no connection" }));
  const wait = JSON.parse(delivery.poll());
  assert.equal(wait.kind, "wait");
  assert.equal(wait.until, 1_030);
  assert.match(wait.because, /full-1 cannot be reached/);
  assert.equal(delivery.poll(), undefined);
  assert.throws(() => delivery.handle(40, "{}"), { code: "malformed" });
});

test("in the wasm: reasons of HTTPS answers have the numbers of the wire", () => {
  assert.equal(light.reasonCode("too-late"), 4);
  assert.equal(light.reasonCode("no such reason"), undefined);
});

test("over WebRTC: connected, progress, stored", async () => {
  const { events, result } = run({
    webrtc: async (attempt) => {
      attempt.connected();
      attempt.progress(400, 1000, 1000);
      return 0;
    },
    https: fail("unreachable", "not tried"),
  });
  assert.deepEqual(await result, { path: "webrtc", because: null });
  assert.deepEqual(events.map((event) => event.kind), ["path", "connected", "upload", "step"]);
  assert.deepEqual(events[2], { kind: "upload", sent: 1000, total: 1000, resumedFrom: 400 });
  assert.equal(events[3].step, "sent");
});

test("refused by the browser: HTTPS at once, and the reason is said", async () => {
  const because = "this browser does not allow the peer-to-peer connection";
  const { events, result } = run({ webrtc: fail("refused-by-browser", because), https: async () => 0 });
  assert.deepEqual(await result, { path: "https", because });
  const tried = events.filter((event) => event.kind === "path");
  assert.deepEqual(tried, [
    { kind: "path", path: "webrtc", because: null, node: "full-1" },
    { kind: "path", path: "https", because, node: "full-1" },
  ]);
});

test("both fail: the report is kept, the node is named, and it is sent when the node is back", async () => {
  let down = true;
  const { events, result } = run({
    webrtc: fail("unreachable", "nobody there"),
    https: async () => {
      if (!down) return 0;
      down = false;
      throw new LightError("unreachable", "no connection");
    },
  });
  assert.equal((await result).path, "https");
  const kept = events.filter((event) => event.kind === "kept");
  assert.equal(kept.length, 1);
  assert.ok(kept[0].retryMs > 900 && kept[0].retryMs <= 1000, `${kept[0].retryMs}`);
  assert.match(kept[0].because, /full-1 cannot be reached.*nobody there.*no connection/);
});

test("no answer over WebRTC for five seconds: the try is aborted and HTTPS begins", async () => {
  let aborted = false;
  const { result } = run({
    webrtc: (attempt) => {
      attempt.signal.addEventListener("abort", () => (aborted = true));
      return never();
    },
    https: async () => 0,
  });
  const { path, because } = await result;
  assert.equal(path, "https");
  assert.match(because, /within 5 s; UDP seems blocked/);
  assert.ok(aborted);
});

test("a refusal for good rejects with the reason", async () => {
  const { result } = run({ webrtc: async () => 13, https: never });
  await assert.rejects(result, { name: "LightError", code: "round-closed" });
});

test("a round that is over is not waited for", async () => {
  const down = fail("unreachable", "no connection");
  const { result } = run({ webrtc: down, https: down }, { deadlineMs: Date.now() - 1 });
  await assert.rejects(result, { code: "too-late" });
});

test("it can be stopped, before and during", async () => {
  await assert.rejects(run({ webrtc: never, https: never }, {}, { signal: AbortSignal.abort() }).result, { code: "aborted" });
  const stop = new AbortController();
  const { result } = run({ webrtc: never, https: never }, {}, { signal: stop.signal });
  stop.abort();
  await assert.rejects(result, { code: "aborted" });
});

test("late calls of a path that was given up change nothing", async () => {
  let first;
  const { events, result } = run({
    webrtc: async (attempt) => {
      first = attempt;
      throw new LightError("unreachable", "nobody there");
    },
    https: async () => {
      first.connected();
      first.progress(0, 5, 10);
      return 0;
    },
  });
  await result;
  assert.ok(!events.some((event) => event.kind === "connected" || event.kind === "upload"));
});

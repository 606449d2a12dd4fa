// The whole client in Node.js, which has no WebRTC and no IndexedDB, against a mesh that only answers HTTP.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { test } from "node:test";
import { LightError, joinMesh } from "../dist/index.js";
import { csv, fixture, model } from "./light.mjs";

const task = {
  id: fixture.task, name: "digits", title: "Digits", summary: "", model: "softmax", dimension: fixture.dimension,
  paused: false, signed: fixture.manifest, initial: null, currentModel: fixture.baseModel, sample: null, roundsDone: 0,
  rounds: 10,
  round: {
    round: 1, signed: fixture.round, baseModel: fixture.baseModel, openedMs: fixture.openedMs,
    deadlineMs: fixture.deadlineMs, phase: { phase: "waiting-for-reports", have: 0, need: 3 },
    text: "Waiting for 3 more contributions", acceptsReports: true, pending: 0, verified: 0, rejected: {}, minBatch: 3,
    maxBatch: 50,
  },
};
const nodes = fixture.members.map((id, at) => ({
  id, name: `full-${at + 1}`, role: "full", http: `/nodes/full-${at + 1}`, addresses: ["/ip4/127.0.0.1/udp/1/quic-v1"],
  reachable: true,
}));
const reports = new RegExp(`^/nodes/full-[123]/tasks/(?:${fixture.task}|${fixture.enrolled.task})/reports`);

/** A mesh on loopback. `upload` answers what is sent to the leader: a status and a problem. */
async function mesh(t, { upload = () => [201], view = task, away = [], says = () => true } = {}) {
  const uploads = [];
  const listed = nodes.map((node) => ({ ...node, reachable: says(node.name) }));
  const server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const json = (body, status = 200) => {
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    };
    const { method, url, headers } = request;
    if (url === "/api/v1/mesh") json({ aggregation: { id: fixture.aggregation, name: "agg" }, nodes: listed });
    else if (away.some((name) => url.startsWith(`/nodes/${name}/`))) request.socket.destroy();
    else if (url === "/api/v1/tasks") json([view]);
    else if (url === "/api/v1/tasks/digits" || url === `/api/v1/tasks/${view.id}`) json(view);
    else if (url.startsWith("/api/v1/tasks/")) json({ code: "unknown-task", message: "There is no such task here." }, 404);
    else if (url === `/api/v1/models/${fixture.baseModel}`) response.end(model);
    else if (method === "PUT" && reports.test(url)) {
      uploads.push({ type: headers["content-type"], bytes: Buffer.concat(chunks) });
      const [status, code] = upload(uploads.length);
      if (status === 0) request.socket.destroy();
      else if (code === undefined) response.writeHead(status).end();
      else json({ code, detail: "as the reason says" }, status);
    } else if (reports.test(url)) {
      json({ state: "pending", reason: null, text: null });
    } else json({ code: "not-found", message: "not found" }, 404);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.closeAllConnections?.() ?? undefined);
  t.after(() => server.close());
  const base = `http://127.0.0.1:${server.address().port}`;
  return { base, uploads, client: await joinMesh(base) };
}

test("rows become one stored report, and every step is told", async (t) => {
  const { client, uploads } = await mesh(t);
  const events = [];
  const done = await client.contribute({ task: "digits", rows: csv(), seed: 7, onEvent: (event) => events.push(event) });
  const steps = events.filter((event) => event.kind === "step").map((event) => event.step);
  assert.deepEqual(steps, ["read", "trained", "split", "sealed", "sent"]);
  assert.equal(events.filter((event) => event.kind === "training").length, 5);
  assert.equal(uploads.length, 1);
  assert.equal(uploads[0].type, "application/dap-report");
  assert.deepEqual(done, {
    task: fixture.task, taskName: "digits", round: 1, report: done.report, node: done.node, path: "https",
    because: `${done.node} has no peer-to-peer address`, bytes: uploads[0].bytes.length,
  });
  assert.equal(uploads[0].bytes.subarray(0, 16).toString("base64url"), done.report);
  assert.ok(!uploads[0].bytes.includes(Buffer.from(csv().slice(-60))), "no row travels");
  assert.deepEqual(await client.kept(), []);
  assert.deepEqual(await client.outcome(done), { state: "pending", reason: null, text: null });
});

test("a node that is down: the report is kept, and the same bytes are sent when it is back", async (t) => {
  const { client, uploads } = await mesh(t, { upload: (n) => [n === 1 ? 0 : 201] });
  const events = [];
  let during;
  const done = await client.contribute({
    task: "digits", rows: csv(20),
    onEvent: (event) => {
      events.push(event);
      if (event.kind === "kept") during = client.kept();
    },
  });
  const [kept] = await during;
  assert.deepEqual([kept.report, kept.task, kept.round, kept.bytes], [done.report, fixture.task, 1, done.bytes]);
  assert.equal(kept.deadlineMs, fixture.deadlineMs);
  assert.match(events.find((event) => event.kind === "kept").because, /full-[123] cannot be reached/);
  assert.equal(uploads.length, 2);
  assert.ok(uploads[0].bytes.length === 0 || uploads[0].bytes.equals(uploads[1].bytes));
  assert.deepEqual(await client.kept(), []);
});

test("stopped while waiting: kept, and resume sends it under the same id", async (t) => {
  let up = false;
  const { client, uploads } = await mesh(t, { upload: () => (up ? [201] : [503, "unavailable"]) });
  const stop = new AbortController();
  const contribution = client.contribute({
    task: fixture.task, rows: csv(20), signal: stop.signal,
    onEvent: (event) => event.kind === "kept" && stop.abort(),
  });
  await assert.rejects(contribution, { code: "aborted" });
  const [kept] = await client.kept();
  up = true;
  const [done, again] = await Promise.allSettled([client.resume(kept.report), client.resume(kept.report)]);
  assert.equal(done.value.report, kept.report);
  assert.equal(again.reason.code, "already-sending");
  assert.ok(uploads.at(-1).bytes.equals(uploads[0].bytes));
  assert.deepEqual(await client.kept(), []);
  await assert.rejects(client.resume(kept.report), { code: "unknown-report" });
});

test("refused for good: the reason is told and nothing stays", async (t) => {
  const { client } = await mesh(t, { upload: () => [400, "round-closed"] });
  await assert.rejects(client.contribute({ task: "digits", rows: csv(20) }), (error) => {
    assert.ok(error instanceof LightError);
    assert.equal(error.code, "round-closed");
    assert.match(error.message, /next one/);
    return true;
  });
  assert.deepEqual(await client.kept(), []);
});

test("rows are checked without a round, and bad ones never train", async (t) => {
  const { client, uploads } = await mesh(t, { view: { ...task, round: null } });
  assert.deepEqual(await client.check("digits", new Blob([csv(10)])), { rows: 10, errors: [] });
  const bad = await client.check("digits", csv(3).replace(/\n[^,]*,/, "\n99,"));
  assert.deepEqual([bad.rows, bad.errors[0].row, bad.errors[0].column], [0, 1, "p0"]);
  const huge = await client.check("digits", { size: 1e9, arrayBuffer: () => assert.fail("it must not be loaded") });
  assert.match(huge.errors[0].message, /1000000000 bytes; at most/);
  await assert.rejects(client.contribute({ task: "digits", rows: csv() }), { code: "no-round" });
  assert.equal(uploads.length, 0);
});

test("bad rows reject the contribution with every problem", async (t) => {
  const { client, uploads } = await mesh(t);
  const rows = csv(3).replace(/\n[^,]*,/, "\nNaN,");
  await assert.rejects(client.contribute({ task: "digits", rows }), (error) => {
    assert.equal(error.code, "bad-data");
    assert.deepEqual([error.problems[0].row, error.problems[0].column], [1, "p0"]);
    return true;
  });
  assert.equal(uploads.length, 0);
});

test("a task id that the manifest does not have is refused", async (t) => {
  const other = "B".repeat(43);
  const { client } = await mesh(t, { view: { ...task, id: other } });
  await assert.rejects(client.contribute({ task: "digits", rows: csv(5) }), { code: "wrong-task" });
  await assert.rejects(client.task("unheard-of"), { code: "unknown-task" });
});

test("paused, closed and finished tasks are told apart", async (t) => {
  const code = async (view) => {
    const { client } = await mesh(t, { view: { ...task, ...view } });
    return client.contribute({ task: "digits", rows: csv(5) }).then(() => "none", (error) => error.code);
  };
  assert.equal(await code({ paused: true }), "paused");
  assert.equal(await code({ round: null, roundsDone: 10 }), "complete");
  assert.equal(await code({ round: { ...task.round, acceptsReports: false, text: "Adding" } }), "round-closed");
});

test("an address that is no mesh is said to be none", async () => {
  await assert.rejects(joinMesh("http://127.0.0.1:9"), { code: "mesh-unreachable" });
  await assert.rejects(joinMesh("not an address"), { code: "no-mesh" });
  await assert.rejects(joinMesh(), { code: "no-mesh" });
});

test("a kept report can be dropped, and is then nowhere", async (t) => {
  const { client, uploads } = await mesh(t, { upload: () => [503, "unavailable"] });
  const stop = new AbortController();
  const contribution = client.contribute({
    task: "digits", rows: csv(20), signal: stop.signal, onEvent: (event) => event.kind === "kept" && stop.abort(),
  });
  await assert.rejects(contribution, { code: "aborted" });
  const [{ report, sending }] = await client.kept();
  assert.equal(sending, null);
  await client.discard(report);
  assert.deepEqual(await client.kept(), []);
  await assert.rejects(client.resume(report), { code: "unknown-report" });
  assert.equal(uploads.length, 1);
});

test("a report that is being sent is not dropped", async (t) => {
  const { client } = await mesh(t, { upload: (n) => (n === 1 ? [503, "unavailable"] : [201]) });
  let refused, during;
  const done = await client.contribute({
    task: "digits", rows: csv(20),
    onEvent: (event) => {
      if (event.kind === "kept") {
        during = client.kept();
        refused = during.then(([{ report }]) => client.discard(report)).catch((error) => error.code);
      }
    },
  });
  assert.equal((await during)[0].sending, "here");
  assert.equal(await refused, "already-sending");
  assert.ok(done.report);
});

test("with too few rows nothing is trained, and why is said", async (t) => {
  const { client, uploads } = await mesh(t);
  const few = await client.check("digits", csv(9));
  assert.equal(few.rows, 0);
  assert.match(few.errors[0].message, /only 9 rows; a contribution needs at least 10/);
  await assert.rejects(client.contribute({ task: "digits", rows: csv(9) }), { code: "bad-data" });
  assert.equal(uploads.length, 0);
});

test("a seed is a whole number, and a closed mesh computes no more", async (t) => {
  const { client } = await mesh(t);
  await assert.rejects(client.contribute({ task: "digits", rows: csv(5), seed: 1.5 }), { code: "bad-seed" });
  client.close();
  await assert.rejects(client.contribute({ task: "digits", rows: csv(5) }), { code: "aborted" });
});

const enrolledTask = {
  ...task, id: fixture.enrolled.task, signed: fixture.enrolled.manifest,
  round: { ...task.round, signed: fixture.enrolled.round },
};

test("a device has one key for a task that enrols, and contributes under it", async (t) => {
  const { client, uploads } = await mesh(t, { view: enrolledTask });
  const enrolment = await client.enrolment("digits");
  assert.equal(enrolment.admission, "invite");
  assert.match(enrolment.key, /^[A-Za-z0-9_-]{43}$/);
  assert.equal(enrolment.kept, false, "there is no IndexedDB here");
  assert.deepEqual(await client.enrolment("digits"), enrolment);
  const given = [];
  for (const seed of [1, 2]) given.push(await client.contribute({ task: "digits", rows: csv(20), seed }));
  assert.equal(given[0].report, given[1].report, "the id follows from the key");
  assert.equal(uploads.length, 2);
  const other = await mesh(t, { view: enrolledTask });
  assert.notEqual((await other.client.enrolment("digits")).key, enrolment.key, "another mesh, another key");
});

test("a task of anybody asks for no key", async (t) => {
  const { client } = await mesh(t);
  assert.deepEqual(await client.enrolment("digits"), { admission: null, key: null, kept: false });
  await assert.rejects(client.enrolled("digits"), { code: "no-enrolment" });
  await assert.rejects(client.enrol({ task: "digits" }), { code: "no-enrolment" });
});

test("who a report goes to is not for the mesh to say", async (t) => {
  const leaders = new Set();
  // It says that only one of three is there.
  const { client } = await mesh(t, { says: (name) => name === "full-1" });
  for (let turn = 0; turn < 40 && leaders.size < 3; turn += 1) {
    leaders.add((await client.contribute({ task: "digits", rows: csv() })).node);
  }
  assert.deepEqual([...leaders].sort(), ["full-1", "full-2", "full-3"]);
});

test("a leader that this device does not reach is left out, and that is told", async (t) => {
  // The mesh says that all are there.
  const { client } = await mesh(t, { away: ["full-2", "full-3"] });
  const away = new Set();
  for (let turn = 0; turn < 12; turn += 1) {
    const onEvent = (event) => event.kind === "away" && away.add(event.node);
    assert.equal((await client.contribute({ task: "digits", rows: csv(), onEvent })).node, "full-1");
  }
  assert.deepEqual([...away].sort(), ["full-2", "full-3"]);
});

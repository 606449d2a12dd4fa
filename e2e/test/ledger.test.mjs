import assert from "node:assert/strict";
import { test } from "node:test";

import { canned, fixture, task } from "../../pkg/test/served.mjs";
import { ContributePage, browser } from "../lib/browser.mjs";
import { CannedMesh } from "../lib/canned.mjs";

async function open(t, height, path, changes) {
  const mesh = await CannedMesh.start(height, changes);
  t.after(() => mesh.stop());
  const chromium = await browser();
  t.after(() => chromium.close());
  const page = await ContributePage.open(await chromium.newContext(), `${mesh.url}${path}`);
  return { mesh, page };
}

test("a person sees what was agreed on, and that this browser has checked it", { timeout: 180_000 }, async (t) => {
  const { mesh, page } = await open(t, 8, "/");
  await page.page.getByRole("link", { name: "Ledger" }).click();
  assert.equal(new URL(page.page.url()).pathname, "/ledger");
  await page.has("verified", "data-state", "right");
  assert.match(await page.text("verified"), /Verified in this browser: block 8, signed by validation-2, -4, -5 of 4; .*ms/);
  assert.equal(await page.page.locator('[data-testid="block"]').count(), 8);
  assert.match(await page.text("blocks"), /aggregation opens round 1 of digits/);
  await page.page.locator('[data-testid="ledger-round"][data-round="1"][data-state="right"]').waitFor();
  assert.match(await page.text("ledger-rounds"), /Finished[^]*4 for the model[^]*100/);
  await page.at("balance-key").fill(canned.states.account.slot.split(".")[1]);
  await page.at("balance-ask").click();
  await page.has("balance", "data-state", "right");
  assert.match(await page.text("balance"), /has 750 points/);
  await page.shoot("ledger");
  // A new block is listed and checked by itself.
  mesh.ledger.height = 9;
  await page.page.locator('[data-testid="block"][data-height="9"]').waitFor();
  await page.page.getByText("block 9, signed by").first().waitFor();
  // An older head is as final as it was, and no longer the newest.
  mesh.ledger.head = () => canned.headers[7];
  await page.at("check-again").click();
  await page.has("verified", "data-state", "older");
  assert.match(await page.text("verified"), /shows an older block than it did: block 8, .*has seen block 9/);
  mesh.ledger.head = () => canned.headers[mesh.ledger.height - 1];
  await page.at("check-again").click();
  await page.has("verified", "data-state", "right");
  // Back and forth without loading anything anew.
  await page.page.goBack();
  await page.page.getByRole("heading", { name: "What would you like to help with?" }).waitFor();
  await page.page.goForward();
  // And the page is there when it is loaded at its own address.
  await page.page.reload();
  await page.has("verified", "data-state", "right");
  assert.deepEqual(page.errors, []);
});

test("a round that the mesh invents is not shown as one of the ledger's", { timeout: 180_000 }, async (t) => {
  const { mesh, page } = await open(t, 9, "/");
  const real = mesh.ledger.blocks;
  const invented = { kind: "round-opened", text: "aggregation opens round 3 of digits", task: task.id, round: 3 };
  mesh.ledger.blocks = (query) => real(query).map((block) => (block.height === 9 ? { ...block, txs: [invented] } : block));
  await page.page.goto(`${mesh.url}/ledger`);
  await page.page.locator('[data-testid="ledger-round"][data-round="3"][data-state="none"]').waitFor();
  await page.page.locator('[data-testid="ledger-round"][data-round="1"][data-state="right"]').waitFor();
  assert.match(await page.text("ledger-rounds"), /Round 3[^]*no such round/);
});

test("a ledger that is not the one this browser knows is refused in red, with what to do", { timeout: 180_000 }, async (t) => {
  const { mesh, page } = await open(t, 6, "/ledger");
  await page.has("verified", "data-state", "right");
  Object.assign(mesh.ledger, { claimed: canned.other.chain, genesis: canned.other.genesis });
  await page.at("check-again").click();
  await page.has("verified", "data-code", "other-chain");
  assert.match(await page.text("verified"), /Refused by this browser: .*Ask its operators/);
  await page.at("trust-new").waitFor();
  await page.shoot("ledger-refused");
  // Once it is trusted, what counts is whether its blocks are signed: these are another ledger's.
  await page.at("trust-new").click();
  await page.page.locator('[data-testid="verified"]:not([data-code="other-chain"])[data-state="wrong"]').waitFor();
});

test("a head that too few have signed is refused", { timeout: 180_000 }, async (t) => {
  const bad = canned.bad.headers.find(({ code }) => code === "missing-signer");
  const { page } = await open(t, 6, "/ledger", { head: () => bad.served });
  await page.has("verified", "data-code", "missing-signer");
  assert.match(await page.text("verified"), /2 validators have signed, but 3 must/);
});

test("a mesh without a ledger, an empty one and one that cannot be reached say so", { timeout: 180_000 }, async (t) => {
  const { mesh, page } = await open(t, 6, "/ledger", { claimed: null });
  await page.at("no-ledger").waitFor();
  await page.shoot("ledger-none");
  assert.equal(await page.at("ledger-gone").count(), 0);
  mesh.ledger.claimed = canned.chain;
  mesh.ledger.blocks = () => [];
  await page.at("blocks-empty").waitFor();
  await page.has("verified", "data-state", "right");
  // One that had a ledger cannot say that it has none.
  mesh.ledger.claimed = null;
  await page.at("ledger-gone").waitFor();
  await page.at("forget").click();
  await page.at("ledger-gone").waitFor({ state: "detached" });
  mesh.ledger.claimed = canned.chain;
  await page.has("verified", "data-state", "right");
  mesh.down = true;
  await page.at("check-again").click();
  await page.has("verified", "data-state", "unknown");
  await page.at("ledger-away").waitFor();
});

/** A page on a mesh that says, once it has the report, that round 1 is over and has counted it. */
async function counted(t, height, changes = {}) {
  const { mesh, page } = await open(t, 6, "/");
  const metrics = { loss: 0.4, accuracy: 0.9, r2: null, rows: 360 };
  const record = { round: 1, outcome: "finished", reason: null, model: "m", reports: 5, rejected: {}, finishedMs: task.round.openedMs, metrics };
  mesh.after = { height, view: { ...mesh.ledger.view, round: null, roundsDone: 1, history: [record] }, ...changes };
  await page.useSample();
  await page.contribute();
  await page.has("opening", "data-state", "right");
  return { mesh, page };
}

test("a contribution starts on a final opening, and a receipt of somebody else's report is refused", { timeout: 240_000 }, async (t) => {
  const { mesh, page } = await counted(t, 9);
  assert.match(await page.text("opening"), /opening of round 1 is final, verified in this browser at block 5, signed by validation-2, -4, -5 of 4/);
  await page.has("receipt", "data-state", "wrong");
  assert.match(await page.text("receipt"), /refused here: .*not in the committee's batch/);
  await page.has("step-counted", "data-state", "failed");
  await page.has("effect", "data-state", "wrong");
  await page.shoot("contribute-ledger");
  // After another load, what was given is still listed, with what came of its receipt.
  await page.page.goto(`${mesh.url}/ledger`);
  await page.page.locator('[data-testid="given-one"][data-round="1"][data-state="wrong"]').waitFor();
  assert.match(await page.text("given"), /digits\s+Round 1/);
  assert.deepEqual(page.errors, []);
});

test("a history that the mesh invents shows nothing as counted", { timeout: 240_000 }, async (t) => {
  const { mesh, page } = await counted(t, 8, { receipt: undefined });
  await page.has("receipt", "data-state", "waits");
  await page.has("step-counted", "data-state", "running");
  assert.match(await page.text("effect"), /The mesh says .*its proof is on its way/);
  assert.equal(await page.attribute("effect", "data-state"), "waits");
  // A mesh that was known by its ledger does not get away with having none.
  mesh.ledger.claimed = null;
  await page.has("receipt", "data-state", "wrong");
  assert.match(await page.text("receipt"), /says that it keeps no ledger/);
  await page.has("effect", "data-state", "wrong");
  await page.shoot("contribute-unproven");
  assert.deepEqual(page.errors, []);
});

test("cards of tasks that learn the same can be told apart", { timeout: 180_000 }, async (t) => {
  const { enrolled, three } = fixture;
  const view = { ...task, id: enrolled.task, name: "ours", signed: enrolled.manifest, privacy: { epsilon: 8, delta: 1e-5, spent: 0, roundsLeft: 3, noise: 9 } };
  const { page } = await open(t, 6, "/", { tasks: () => [task, view, { ...task, id: three.task, name: "guarded", signed: three.manifest }] });
  assert.match(await page.text("task-digits"), /Read handwritten digits\s+digits\s/);
  assert.match(await page.text("task-ours"), /ours\s+Noise, epsilon 8\s+By invitation/);
  assert.match(await page.text("task-guarded"), /guarded\s+3 shares/);
  await page.shoot("cards");
});

test("who is told to forget the old ledger gets to where that is done", { timeout: 240_000 }, async (t) => {
  const { mesh, page } = await open(t, 6, "/ledger");
  await page.has("verified", "data-state", "right");
  Object.assign(mesh.ledger, { claimed: canned.other.chain, genesis: canned.other.genesis });
  await page.page.goto(`${mesh.url}/`);
  await page.useSample();
  await page.page.locator('[data-testid="contribute"]:enabled').click();
  await page.has("error", "data-code", "other-chain");
  await page.at("to-ledger").getByRole("link").click();
  assert.equal(new URL(page.page.url()).pathname, "/ledger");
  await page.at("trust-new").waitFor();
});

test("a task that the mesh has no longer leaves the page, and so does what was under way for it", { timeout: 240_000 }, async (t) => {
  const { mesh, page } = await open(t, 6, "/");
  await page.useSample();
  await page.contribute();
  await page.reaches("sent");
  await page.page.getByText("Yours is in round 1").first().waitFor();
  const before = mesh.ledger.view;
  // Another mesh at the same address, as after a restart with an empty folder.
  mesh.ledger.view = { ...before, id: "A".repeat(43), name: "others", title: "Something else" };
  mesh.server.closeAllConnections();
  await page.at("task-gone").waitFor();
  assert.match(await page.text("task-gone"), /no task “Read handwritten digits” any more.*round 1 ended with it/);
  await page.at("task-others").waitFor();
  assert.equal(await page.at("task-digits").count(), 0);
  assert.equal(await page.page.getByText("Yours is in round 1").count(), 0);
  await page.shoot("task-gone");
  // It was only away.
  mesh.ledger.view = before;
  mesh.server.closeAllConnections();
  await page.at("task-gone").waitFor({ state: "detached" });
  await page.page.getByText("Yours is in round 1").first().waitFor();
  assert.deepEqual(page.errors, []);
});

test("checking a certificate takes a moment", { timeout: 120_000 }, async (t) => {
  const { page } = await open(t, 6, "/ledger");
  const median = await page.page.evaluate(async ({ genesis, chain, headers }) => {
    const light = await import("/light/wasm/light.js");
    await light.default();
    const follower = light.Chain.begin(genesis, chain);
    follower.handOver(JSON.stringify(headers[2]));
    follower.advance(JSON.stringify(headers[5]));
    // An earlier block of the epoch: it is checked anew each time.
    const served = JSON.stringify(headers[4]);
    const times = Array.from({ length: 201 }, () => {
      const started = performance.now();
      follower.advance(served);
      return performance.now() - started;
    });
    return times.sort((a, b) => a - b)[100];
  }, canned);
  console.log(`# one certificate, three signatures of four validators: median ${median.toFixed(2)} ms`);
  assert.ok(median > 0);
});

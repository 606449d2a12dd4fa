import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { ContributePage, browser } from "../lib/browser.mjs";
import { Mesh, digits } from "../lib/mesh.mjs";

test("contributors vote in secret on the model, and the page shows how many found it how good", { timeout: 300_000 }, async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "defim-rows-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const mesh = await Mesh.start({ minBatch: 5, settle: 1, votes: true });
  t.after(() => mesh.stop());
  const chromium = await browser();
  t.after(() => chromium.close());

  const natives = [0, 1, 2, 3].map(async (place) => {
    const data = await digits(folder, 120 * place, 120 * place + 120);
    return mesh.contribute({ data, rounds: 2 });
  });
  const page = await ContributePage.open(await chromium.newContext(), mesh.url);
  await page.useSample();
  assert.match(await page.text("vote"), /how often the model is right on your rows, in 10 steps/);
  for (const round of [1, 2]) {
    await page.contribute(round > 1);
    await page.has("step-counted", "data-state", "running");
    await page.reaches("counted");
    assert.match(await page.text("step-counted"), new RegExp(`Counted in round ${round}`));
  }
  await Promise.all(natives);

  const { history } = await mesh.get("/tasks/digits");
  assert.deepEqual(history.map(({ outcome }) => outcome), ["finished", "finished"]);
  for (const { votes } of history) {
    assert.equal(votes.votes, 5);
    assert.equal(votes.bins.length, 10);
    assert.equal(votes.bins.reduce((sum, count) => sum + count, 0), 5);
  }
  // Nobody is served by a model that knows nothing; all are by the one after a round.
  assert.ok(history[1].votes.mean > history[0].votes.mean + 0.3, JSON.stringify(history));

  await page.at("votes").waitFor();
  assert.match(await page.text("votes"), /Round 2: 5 private votes on the model that it started from/);
  assert.deepEqual(page.errors, []);
  await page.shoot("votes");
});

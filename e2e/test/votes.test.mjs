import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { ContributePage, browser } from "../lib/browser.mjs";
import { Mesh, digits } from "../lib/mesh.mjs";
import { until } from "../lib/process.mjs";

/** The same digit under another name: who has such rows is served badly by everybody else's model. */
const renamed = (row) => row.replace(/\d$/, (digit) => String((Number(digit) + 5) % 10));

test("contributors vote in secret, and a model that leaves a quarter of them behind goes no further", { timeout: 300_000 }, async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "defim-rows-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const mesh = await Mesh.start({ minBatch: 9, settle: 1, votes: true });
  t.after(() => mesh.stop());
  const chromium = await browser();
  t.after(() => chromium.close());
  const rows = (place, change) => digits(folder, 120 * place, 120 * place + 120, change);
  const page = await ContributePage.open(await chromium.newContext(), mesh.url);

  const alike = await Promise.all([0, 1, 2, 3, 4, 5, 6, 7].map((place) => rows(place)));
  const first = alike.map((data) => mesh.contribute({ data }));
  await page.useSample();
  assert.match(await page.text("vote"), /private vote|vote/i);
  await page.contribute();
  await page.reaches("counted");
  await Promise.all(first);

  // In the second round three of nine have other digits than the rest.
  const others = await Promise.all([8, 9, 10].map((place) => rows(place, renamed)));
  const second = [...alike.slice(0, 6), ...others].map((data) => mesh.contribute({ data, wait: false }));
  await Promise.all(second);
  const history = await until("the second round to end", async () => {
    const { history } = await mesh.get("/tasks/digits");
    return history.length > 1 && history;
  });

  assert.deepEqual(history.map(({ round, outcome }) => [round, outcome]), [
    [1, "finished"],
    [2, "voided"],
  ]);
  for (const { votes } of history) {
    assert.equal(votes.votes, 9);
    assert.equal(votes.bins.reduce((sum, count) => sum + count, 0), 9);
  }
  // Nobody is served by a model that knows nothing; most are by the one after a round.
  assert.ok(history[1].votes.mean > history[0].votes.mean + 0.2, JSON.stringify(history));
  assert.ok(history[1].votes.worst_quarter < history[1].votes.mean - 0.3, JSON.stringify(history));
  assert.match(history[1].reason, /private votes[^]*quarter/);

  await page.page.goto(`${mesh.url}/`);
  await page.at("votes").waitFor();
  assert.match(await page.text("votes"), /Round 2: 9 private votes on the model/);
  assert.deepEqual(page.errors, []);
  await page.shoot("votes");
});

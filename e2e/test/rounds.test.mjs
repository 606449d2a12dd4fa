import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { ContributePage, browser } from "../lib/browser.mjs";
import { Mesh, digits } from "../lib/mesh.mjs";

test("three browsers and five native light nodes finish two rounds over WebRTC", { timeout: 300_000 }, async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "defim-rows-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const mesh = await Mesh.start({ minBatch: 8, settle: 1 });
  t.after(() => mesh.stop());
  const chromium = await browser();
  t.after(() => chromium.close());

  const natives = [0, 1, 2, 3, 4].map(async (i) => {
    const data = await digits(folder, 100 * i, 100 * i + 100);
    return mesh.contribute({ data, rounds: 2 });
  });
  const pages = await Promise.all(
    [0, 1, 2].map(async () => ContributePage.open(await chromium.newContext(), mesh.url)),
  );
  const before = (await mesh.get("/tasks/digits")).initial.accuracy;

  for (const round of [1, 2]) {
    await Promise.all(
      pages.map(async (page) => {
        if (round === 1) await page.useSample();
        await page.contribute(round > 1);
        await page.has("step-counted", "data-state", "running");
        await page.reaches("counted");
        assert.match(await page.text("step-counted"), new RegExp(`Counted in round ${round}`));
        assert.equal(await page.attribute("path", "data-path"), "webrtc", await page.text("path"));
        assert.match(await page.text("path"), /Sent over WebRTC/);
        for (const step of ["read", "trained", "split", "sealed", "sent"]) {
          assert.match(await page.text(`step-${step}`), /\d (B|kB|MB)\b.*\d m?s\b/s, step);
        }
      }),
    );
  }

  const lines = (await Promise.all(natives)).flat();
  assert.equal(lines.length, 10);
  const { history } = await mesh.get("/tasks/digits");
  assert.deepEqual(history.map((record) => [record.round, record.outcome, record.reports]), [
    [1, "finished", 8],
    [2, "finished", 8],
  ]);
  const after = history[1].metrics.accuracy;
  assert.ok(after > before, `${before} to ${after}`);
  for (const page of pages) {
    await page.has("accuracy", "data-value", after);
    assert.match(await page.text("effect"), /went from .* to /);
    // The page has added the round's encrypted sum up again by itself.
    await page.has("audit", "data-verdict", "right");
    assert.match(await page.text("audit"), /2 of 2 blocks of the encrypted sums of 3 full nodes up again/);
    assert.match(await page.text("spent"), /contributed to 2 rounds from this browser, without noise/);
    assert.match(await page.text("history"), /Round 2\s+8 contributions/);
    assert.match(await page.at("chart").locator("desc").textContent(), /round 0: .*, round 1: .*, round 2: /);
    // The ledger's receipt proves that it is counted, and it is listed when the page is loaded again.
    assert.equal(await page.attribute("receipt", "data-state"), "right");
    assert.match(await page.text("receipt"), /that its committee counted in round 2, at block \d+/);
    assert.doesNotMatch(await page.text("receipt"), /claim|point/, "nobody enrols for this task");
    assert.equal(await page.attribute("effect", "data-state"), "proven");
    assert.deepEqual(page.errors, []);
  }
  await pages[0].shoot("two-rounds");
  await pages[0].page.goto(`${mesh.url}/ledger`);
  await pages[0].page.locator('[data-testid="given-one"][data-round="2"][data-state="right"]').waitFor();
  assert.match(await pages[0].text("given"), /committee counted in round 2[^]*committee counted in round 1/);
  await pages[0].shoot("given");
});

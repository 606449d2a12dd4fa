import assert from "node:assert/strict";
import { test } from "node:test";

import { ContributePage, browser } from "../lib/browser.mjs";
import { Mesh } from "../lib/mesh.mjs";

test("a contribution that the committee rejects is said to be, with the reason", { timeout: 300_000 }, async (t) => {
  const mesh = await Mesh.start();
  t.after(() => mesh.stop());
  const chromium = await browser();
  t.after(() => chromium.close());
  const page = await ContributePage.open(await chromium.newContext(), mesh.url);
  await page.useSample();
  await mesh.killFullNodes();
  await page.contribute();
  await page.at("kept-note").waitFor();
  await page.at("stop").click();
  await page.at("kept-note").filter({ hasText: "is not being sent" }).waitFor();

  // The last bytes of a report are the helper's seal: the leader takes it, the helper cannot open it.
  await page.page.evaluate(async () => {
    const asked = (request) => new Promise((resolve, reject) => {
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
    const database = await asked(indexedDB.open("brainstems-light"));
    const store = database.transaction("reports", "readwrite").objectStore("reports");
    const [kept] = await asked(store.getAll());
    kept.sealed[kept.sealed.length - 1] ^= 1;
    await asked(store.put(kept));
    database.close();
  });
  mesh.startFullNodes();
  await mesh.ready();
  await page.at("try-now").click();
  const error = page.page.locator('[data-testid="error"][data-code="rejected"]');
  await error.filter({ hasText: "The committee did not count this contribution." }).waitFor();
  await page.has("step-counted", "data-state", "failed");
  await page.shoot("rejected");
  const { round } = await mesh.get("/tasks/digits");
  assert.equal(Object.values(round.rejected).reduce((sum, n) => sum + n, 0), 1);
  // It is over: the person can make another one.
  await page.page.locator('[data-testid="contribute-again"]:enabled').waitFor();
  assert.deepEqual(page.errors, []);
});

test("a round that ends without enough contributions is said to, and used nobody's", { timeout: 300_000 }, async (t) => {
  const mesh = await Mesh.start({ deadline: 6 });
  t.after(() => mesh.stop());
  const chromium = await browser();
  t.after(() => chromium.close());
  const page = await ContributePage.open(await chromium.newContext(), mesh.url);
  await page.useSample();
  // Rounds follow each other here; a contribution may miss the end of one.
  for (let tries = 1; ; tries += 1) {
    await page.page.locator('[data-testid^="contribute"]:enabled').click();
    await page.page.locator('[data-testid="error"][data-code]').waitFor();
    if ((await page.attribute("error", "data-code")) === "voided") break;
    assert.ok(tries < 5, await page.text("error"));
  }
  assert.match(await page.text("error"), /Round \d+ ended without a result: .*Nobody's contribution was used/);
  await page.has("step-counted", "data-state", "failed");
  await page.shoot("voided");
  const { history } = await mesh.get("/tasks/digits");
  assert.ok(history.length > 0 && history.every((record) => record.outcome === "voided"));
  assert.deepEqual(page.errors, []);
});

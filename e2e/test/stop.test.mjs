import assert from "node:assert/strict";
import { test } from "node:test";

import { ContributePage, browser } from "../lib/browser.mjs";
import { Mesh } from "../lib/mesh.mjs";

test("a report that waits holds up no other task, and can be stopped, sent and discarded", { timeout: 300_000 }, async (t) => {
  const mesh = await Mesh.start({ tasks: "digits,breast-cancer,diabetes" });
  t.after(() => mesh.stop());
  const chromium = await browser();
  t.after(() => chromium.close());
  const page = await ContributePage.open(await chromium.newContext(), mesh.url);
  const tasks = ["digits", "breast-cancer", "diabetes"];
  for (const task of tasks) {
    await page.at(`task-${task}`).click();
    await page.useSample();
  }
  await mesh.killFullNodes();
  for (const task of tasks) {
    await page.at(`task-${task}`).click();
    await page.contribute();
    await page.at("kept-note").filter({ hasText: /full-[123] cannot be reached/ }).waitFor();
  }
  for (const task of tasks) await page.at(`yours-${task}`).filter({ hasText: "waits to be sent" }).waitFor();
  await page.shoot("three-wait");
  // Another try at once ends where the first did: still kept, and no error.
  await page.at("try-now").click();
  await page.at("kept-note").filter({ hasText: /full-[123] cannot be reached/ }).waitFor();
  assert.equal(await page.at("error").count(), 0);

  // After a refresh all go on, side by side.
  await page.page.reload();
  for (const task of tasks) await page.at(`yours-${task}`).filter({ hasText: "waits to be sent" }).waitFor();

  // One is discarded: a new one can be made at once.
  await page.at("task-digits").click();
  await page.at("discard").click();
  await page.at("ended-note").filter({ hasText: "nothing of it is kept" }).waitFor();
  await page.useSample();
  await page.page.locator('[data-testid="contribute-again"]:enabled').waitFor();

  // One is stopped: it is kept, also after a refresh, and does not go on by itself.
  await page.at("task-diabetes").click();
  await page.at("stop").click();
  await page.at("kept-note").filter({ hasText: "is not being sent" }).waitFor();
  await page.shoot("stopped");
  await page.page.reload();
  await page.at("yours-diabetes").filter({ hasText: "Yours is kept here" }).waitFor();
  mesh.startFullNodes();
  await mesh.ready();
  await page.at("yours-breast-cancer").filter({ hasText: "Yours is in round 1" }).waitFor();
  const counted = async (task) => {
    const { round } = await mesh.get(`/tasks/${task}`);
    return round.pending + round.verified;
  };
  assert.deepEqual(await Promise.all(tasks.map(counted)), [0, 1, 0]);

  await page.at("task-diabetes").click();
  await page.at("kept-note").filter({ hasText: "is not being sent" }).waitFor();
  await page.useSample();
  assert.ok(await page.at("contribute").isDisabled(), "one contribution a round");
  await page.at("try-now").click();
  await page.reaches("sent");
  await page.at("yours-diabetes").filter({ hasText: "Yours is in round 1" }).waitFor();
  assert.equal(await counted("diabetes"), 1);
  assert.deepEqual(page.errors, []);
});

test("stopped before it is sealed, nothing is kept", { timeout: 300_000 }, async (t) => {
  const mesh = await Mesh.start();
  t.after(() => mesh.stop());
  // So wide that training and proving take long enough to be met.
  await mesh.createLargeTask("wide", 256);
  const chromium = await browser();
  t.after(() => chromium.close());
  const page = await ContributePage.open(await chromium.newContext(), mesh.url);
  await page.at("task-wide").click();
  await page.useSample();
  await page.page.locator('[data-testid="contribute"]:enabled').waitFor();
  // In one go: a click from here may come too late.
  await page.page.evaluate(() => {
    const press = (id) => document.querySelector(`[data-testid="${id}"]`).click();
    const watch = new MutationObserver(() => {
      if (document.querySelector('[data-testid="stop"]').disabled) return;
      watch.disconnect();
      press("stop");
    });
    watch.observe(document, { attributes: true, childList: true, subtree: true });
    press("contribute");
  });
  await page.at("ended-note").filter({ hasText: "Nothing was sent" }).waitFor();
  assert.equal(await page.at("kept-note").count(), 0);
  await page.page.locator('[data-testid="contribute-again"]:enabled').waitFor();
  const { round } = await mesh.get("/tasks/wide");
  assert.equal(round.pending + round.verified, 0);
  assert.deepEqual(page.errors, []);
});

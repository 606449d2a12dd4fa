import assert from "node:assert/strict";
import { test } from "node:test";

import { ContributePage, PATIENCE, browser } from "../lib/browser.mjs";
import { Mesh } from "../lib/mesh.mjs";

test("a refresh in the middle of an upload resumes it", { timeout: 300_000 }, async (t) => {
  const mesh = await Mesh.start();
  t.after(() => mesh.stop());
  // Megabytes: its middle is met, and what waits in the browser, to be lost with the page, is not all that was sent by then.
  await mesh.createLargeTask("wide", 4096);
  const chromium = await browser();
  t.after(() => chromium.close());
  const context = await chromium.newContext();
  // Loads the page again at the first sign that half, and not all, has been sent. Once.
  await context.addInitScript(() => {
    if (sessionStorage.getItem("refreshed")) return;
    const look = () => {
      const upload = document.querySelector('[data-testid="upload-progress"]');
      const { sent = 0, total = 0 } = upload?.dataset ?? {};
      if (Number(sent) > Number(total) / 2 && Number(sent) < Number(total)) {
        watch.disconnect();
        sessionStorage.setItem("refreshed", `${sent} of ${total}`);
        location.reload();
      }
    };
    const watch = new MutationObserver(look);
    watch.observe(document, { attributes: true, attributeFilter: ["data-sent"], subtree: true });
  });
  const page = await ContributePage.open(context, mesh.url);
  await page.at("task-wide").click();
  await page.useSample();
  await page.contribute();

  await page.at("resume-note").waitFor();
  await page.reaches("sent");
  const at = await page.page.evaluate(() => sessionStorage.getItem("refreshed"));
  assert.match(at, /^\d+ of \d+$/);
  const total = Number(at.split(" ").at(-1));
  const resumed = Number(await page.attribute("upload-progress", "data-resumed"));
  assert.ok(resumed > 0 && resumed < total, `resumed from ${resumed} of ${total}, refreshed at ${at}`);
  assert.equal(Number(await page.attribute("upload-progress", "data-sent")), total);

  // The report is whole: with a second one the round counts both.
  const other = await ContributePage.open(await chromium.newContext(), mesh.url);
  await other.at("task-wide").click();
  await other.useSample();
  await other.contribute();
  await Promise.all([page.reaches("counted"), other.reaches("counted")]);
  const { history } = await mesh.get("/tasks/wide");
  assert.equal(history[0].reports, 2);
  assert.deepEqual(page.errors, []);
});

test("a page that is left after sending goes on watching its round", { timeout: 300_000 }, async (t) => {
  const mesh = await Mesh.start({ minBatch: 2 });
  t.after(() => mesh.stop());
  const chromium = await browser();
  t.after(() => chromium.close());
  const page = await ContributePage.open(await chromium.newContext(), mesh.url);
  await page.useSample();
  await page.contribute();
  await page.reaches("sent");
  await page.page.reload();
  await page.has("step-sent", "data-state", "done");
  await page.has("step-counted", "data-state", "running");
  const other = await ContributePage.open(await chromium.newContext(), mesh.url);
  await other.useSample();
  await other.contribute();
  await page.reaches("counted");
  await page.at("effect").waitFor({ timeout: PATIENCE });
});

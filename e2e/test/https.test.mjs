import assert from "node:assert/strict";
import { test } from "node:test";

import { ContributePage, browser } from "../lib/browser.mjs";
import { Mesh } from "../lib/mesh.mjs";

test("where the browser refuses this WebRTC, the report goes over HTTPS and the page says why", { timeout: 300_000 }, async (t) => {
  const mesh = await Mesh.start();
  t.after(() => mesh.stop());
  const chromium = await browser("--force-fieldtrials=WebRTC-NoSdpMangleUfrag/Enabled/");
  t.after(() => chromium.close());
  const page = await ContributePage.open(await chromium.newContext(), mesh.url);
  await page.useSample();
  await page.contribute();
  await page.has("step-sealed", "data-state", "done");
  const sealed = Date.now();
  await page.has("path", "data-path", "https");
  const waited = Date.now() - sealed;
  // The promise of the mission, not of this machine's speed: WebRTC is given five seconds at most.
  assert.ok(waited < 5_000 + 2_000, `HTTPS was chosen after ${waited} ms`);
  await page.reaches("sent");
  assert.match(await page.text("path"), /Sent over HTTPS because .*browser/);
  assert.deepEqual(page.errors, []);
  await page.shoot("https");
});

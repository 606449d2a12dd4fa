import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { ContributePage, browser } from "../lib/browser.mjs";
import { Mesh, digits } from "../lib/mesh.mjs";
import { until } from "../lib/process.mjs";

test("full nodes that are down are named, and the report waits in the browser for it", { timeout: 300_000 }, async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "defim-rows-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const mesh = await Mesh.start();
  t.after(() => mesh.stop());
  const chromium = await browser();
  t.after(() => chromium.close());
  const page = await ContributePage.open(await chromium.newContext(), mesh.url);
  await page.useSample();
  await mesh.killFullNodes();
  await page.contribute();
  await page.at("kept-note").waitFor();
  assert.match(await page.text("kept-note"), /full-[123] cannot be reached.*kept/s);
  assert.equal(await page.attribute("step-sent", "data-state"), "running");
  await page.page.getByText("full-1 does not answer").first().waitFor();
  await page.shoot("node-down");

  // A refresh loses nothing.
  await page.page.reload();
  await page.at("resume-note").waitFor();
  await page.at("kept-note").waitFor();
  assert.match(await page.text("kept-note"), /full-[123]/);

  mesh.startFullNodes();
  await mesh.ready();
  // It may just have been sent by itself.
  await page.at("try-now").click({ timeout: 2_000 }).catch(() => {});
  await page.reaches("sent");
  await Promise.all(
    [1, 2].map(async (i) => mesh.contribute({ data: await digits(folder, 100 * i, 100 * i + 100) })),
  );
  await page.reaches("counted");
  const { history } = await mesh.get("/tasks/digits");
  assert.equal(history[0].reports, 3, "the kept report counts once");
  assert.deepEqual(page.errors, []);
});

test("with one full node down the others do without it, and the page says who is away", { timeout: 300_000 }, async (t) => {
  const mesh = await Mesh.start({ minBatch: 2 });
  t.after(() => mesh.stop());
  await mesh.killNode("full-2");
  await until("the mesh to notice", async () => (await mesh.get("/mesh")).nodes.some((node) => !node.reachable));
  const chromium = await browser();
  t.after(() => chromium.close());
  const pages = await Promise.all([1, 2].map(async () => ContributePage.open(await chromium.newContext(), mesh.url)));
  for (const page of pages) {
    await page.useSample();
    await page.contribute();
  }
  for (const page of pages) await page.reaches("sent");
  // A report whose helper is the one that is away is not counted: who checks it is drawn, and not for the mesh to choose.
  const folder = await mkdtemp(join(tmpdir(), "defim-rows-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const data = await digits(folder, 100, 200);
  for (let n = 0; n < 8; n++) await mesh.contribute({ data, wait: false });
  await until("the round to finish", async () => (await mesh.get("/tasks/digits")).history.length > 0);
  await pages[0].shoot("one-node-away");
  const { history } = await mesh.get("/tasks/digits");
  assert.ok(history[0].reports >= 2);
  for (const page of pages) assert.deepEqual(page.errors, []);
});

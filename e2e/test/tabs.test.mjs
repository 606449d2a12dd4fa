import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { ContributePage, browser } from "../lib/browser.mjs";
import { Mesh, digits } from "../lib/mesh.mjs";

/** Nothing of another tab's contribution looks like this tab's own. */
async function showsNoSteps(page) {
  for (const step of ["read", "trained", "split", "sealed", "sent", "counted"]) {
    assert.equal(await page.attribute(`step-${step}`, "data-state"), "waiting", step);
  }
  assert.equal(await page.at("resume-note").count(), 0);
}

test("two tabs of one browser: one sends, the other says so, and takes over when it is closed", { timeout: 300_000 }, async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "defim-rows-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const mesh = await Mesh.start();
  t.after(() => mesh.stop());
  const chromium = await browser();
  t.after(() => chromium.close());
  const context = await chromium.newContext();
  const one = await ContributePage.open(context, mesh.url);
  await one.useSample();
  await mesh.killFullNodes();
  await one.contribute();
  await one.at("kept-note").waitFor();

  const two = await ContributePage.open(context, mesh.url);
  await two.at("other-tab").filter({ hasText: "its contribution is on its way" }).waitFor();
  await showsNoSteps(two);
  await two.useSample();
  assert.ok(await two.at("contribute").isDisabled());
  await two.page.locator("#send-hint").filter({ hasText: "Another tab of this browser takes part" }).waitFor();
  await two.shoot("other-tab");

  // Nor can a script on the same page send it twice.
  const [sending, refused] = await two.page.evaluate(async () => {
    const { joinMesh } = await import("/light/dist/index.js");
    const mesh = await joinMesh();
    const [{ report, sending }] = await mesh.kept();
    return [sending, await mesh.resume(report).catch((error) => error.code)];
  });
  assert.deepEqual([sending, refused], ["elsewhere", "already-sending"]);

  // The tab that sends is closed: the browser gives its report to the other one.
  await one.page.close();
  await two.at("resume-note").waitFor();
  mesh.startFullNodes();
  await mesh.ready();
  await two.at("try-now").click({ timeout: 2_000 }).catch(() => {});
  await two.reaches("sent");

  // One that only waits for its round is watched by one tab, too.
  const three = await ContributePage.open(context, mesh.url);
  await three.at("other-tab").filter({ hasText: "its contribution waits for round 1 to close" }).waitFor();
  await showsNoSteps(three);
  await Promise.all(
    [1, 2].map(async (i) => mesh.contribute({ data: await digits(folder, 100 * i, 100 * i + 100) })),
  );
  await two.reaches("counted");
  const { history } = await mesh.get("/tasks/digits");
  assert.equal(history[0].reports, 3, "the report counts once");

  // The round is over, and each tab can take part in the next one.
  await three.at("other-tab").waitFor({ state: "detached" });
  await three.useSample();
  await three.page.locator('[data-testid="contribute"]:enabled').waitFor();
  for (const page of [one, two, three]) assert.deepEqual(page.errors, []);
});

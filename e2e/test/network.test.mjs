import assert from "node:assert/strict";
import { test } from "node:test";

import { ContributePage, browser } from "../lib/browser.mjs";
import { Mesh } from "../lib/mesh.mjs";
import { program, start, until } from "../lib/process.mjs";

test("a person measures the way to a node: every byte arrives, there and back", { timeout: 300_000 }, async (t) => {
  const mesh = await Mesh.start();
  t.after(() => mesh.stop());
  const node = start(program(), ["bench", "--network", "--json"]);
  t.after(() => node.stop());
  const { address } = await until("its address", () => JSON.parse(node.text().split("\n")[0]));
  const chromium = await browser();
  t.after(() => chromium.close());
  const { page, errors } = await ContributePage.open(await chromium.newContext(), `${mesh.url}/bench.html`);
  const measure = async (megabytes) => {
    await page.getByLabel("Address").fill(address);
    await page.getByLabel("Megabytes").fill(String(megabytes));
    await page.getByRole("button", { name: "Measure" }).click();
    await page.locator("#way-status[data-done]").waitFor();
    const { done, up, down } = await page.locator("#way-status").evaluate((status) => ({ ...status.dataset }));
    assert.equal(done, "true", await page.locator("#way-status").textContent());
    return { up: Number(up), down: Number(down) };
  };
  await measure(1);
  const { up, down } = await measure(100);
  t.diagnostic(`100 MB each way: ${up.toFixed(1)} MB/s up, ${down.toFixed(1)} MB/s down`);
  assert.deepEqual(errors, []);
});

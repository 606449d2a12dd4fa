import assert from "node:assert/strict";
import { test } from "node:test";

import { ContributePage, PATIENCE, browser } from "../lib/browser.mjs";
import { Mesh } from "../lib/mesh.mjs";

test("a person measures their browser, with a hundred coordinates and with a million", { timeout: 300_000 }, async (t) => {
  const mesh = await Mesh.start();
  t.after(() => mesh.stop());
  const chromium = await browser();
  t.after(() => chromium.close());
  const { page, errors } = await ContributePage.open(await chromium.newContext(), `${mesh.url}/bench.html`);
  const measure = async (dim, ...schemes) => {
    await page.getByLabel("Coordinates").fill(String(dim));
    await page.getByLabel("Runs").fill("1");
    for (const box of await page.locator("input[name=scheme]").all()) {
      await box.setChecked(schemes.includes(await box.getAttribute("value")));
    }
    await page.getByRole("button", { name: "Run" }).click();
    await page.getByText("Done.").waitFor({ timeout: PATIENCE });
    return page.locator("tbody tr").evaluateAll((rows) =>
      rows.map((row) => ({
        scheme: row.dataset.scheme,
        step: row.dataset.step,
        ms: Number(row.dataset.ms),
        bytes: Number(row.cells[4].textContent.replaceAll(",", "")),
      })),
    );
  };
  const steps = ["split", "prepare-leader", "prepare-helper"];
  const all = ["pine64", "pine32", "fpl2", "sumvec"];
  const small = await measure(100, ...all);
  assert.deepEqual(small.map(({ scheme, step }) => [scheme, step]), all.flatMap((scheme) => steps.map((step) => [scheme, step])));
  assert.ok(small.every(({ ms, bytes }) => ms >= 0 && bytes > 0), JSON.stringify(small));
  const large = await measure(1_000_000, "pine64");
  assert.deepEqual(large.map(({ step }) => step), steps);
  // A coordinate is one element of 8 bytes; all else is 0.6 % of it.
  assert.ok(large[0].bytes > 8_000_000 && large[0].bytes <= 8_044_608, String(large[0].bytes));
  await page.locator("input[name=scheme][value=pine64]").setChecked(false);
  await page.getByRole("button", { name: "Run" }).click();
  await page.getByText("Choose at least one scheme.").waitFor();
  assert.deepEqual(errors, []);
  await page.screenshot({ path: new URL("../artefacts/bench.png", import.meta.url).pathname, fullPage: true });
});

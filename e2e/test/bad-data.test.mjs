import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { ContributePage, browser } from "../lib/browser.mjs";
import { Mesh, digits } from "../lib/mesh.mjs";

let folder, mesh, chromium, page, good;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "defim-rows-"));
  mesh = await Mesh.start();
  chromium = await browser();
  page = await ContributePage.open(await chromium.newContext(), mesh.url);
  good = await readFile(await digits(folder, 0, 10), "utf8");
});

after(async () => {
  await chromium?.close();
  await mesh?.stop();
  await rm(folder, { recursive: true, force: true });
});

/** Replaces the value of column `at` in the third row. */
function spoil(at, value) {
  const lines = good.split("\n");
  const cells = lines[3].split(",");
  cells[at] = value;
  lines[3] = cells.join(",");
  return lines.join("\n");
}

const cases = [
  ["a column that is there twice", () => good.replaceAll("\n", ",1\n").replace(",1\n", ",p5\n"), /Column p5: the header has this column 2 times/],
  ["too few rows", () => good.split("\n").slice(0, 10).join("\n"), /only 9 rows; a contribution needs at least 10/],
  ["a missing column", () => good.replace("p5,", "pixel5,"), /missing the columns "p5"/],
  ["text in a number column", () => spoil(7, "seven"), /Row 3, column p7, line 4 of the file.*"seven" is not a number/s],
  ["not a number", () => spoil(8, "NaN"), /Row 3, column p8.*not a finite number/s],
  ["a value out of range", () => spoil(9, "17"), /Row 3, column p9.*17 is out of range; a number from 0 to 16/s],
  ["a class there is not", () => spoil(64, "ten"), /Row 3, column label.*"ten" is not one of the classes/s],
  ["an empty file", () => "", /the file is empty; a header line and at least one row/],
  ["a header without rows", () => `${good.split("\n")[0]}\n`, /a header but no rows/],
];

for (const [name, text, message] of cases) {
  test(`${name} is told by row and column, and nothing is lost`, { timeout: 120_000 }, async () => {
    const file = join(folder, `${name.replaceAll(" ", "-")}.csv`);
    await writeFile(file, text());
    await page.at("data-csv").setInputFiles(file);
    await page.at("problems").filter({ hasText: message }).waitFor();
    assert.match(await page.text("sample-rows"), new RegExp(`${name.replaceAll(" ", "-")}\\.csv`), "the choice stays");
    assert.ok(await page.at("contribute").isDisabled());
    if (name === "a value out of range") await page.shoot("bad-data");
    // The same file, mended, is fine.
    await writeFile(file, good);
    await page.at("data-csv").setInputFiles(file);
    await page.at("sample-rows").filter({ hasText: "10 rows" }).waitFor();
    assert.equal(await page.at("problems").count(), 0);
    await page.page.locator('[data-testid="contribute"]:enabled').waitFor();
  });
}

test("a file of 1 GB is refused unread, and the rows chosen before stay", { timeout: 120_000 }, async () => {
  const file = join(folder, "huge.csv");
  await writeFile(file, good.split("\n")[0]);
  await truncate(file, 1_000_000_000);
  await page.useSample();
  await page.at("sample-rows").filter({ hasText: "75 rows" }).waitFor();
  await page.at("data-csv").setInputFiles(file);
  await page.at("error").filter({ hasText: /huge\.csv has 1000\.0 MB; at most 64 MiB/ }).waitFor();
  assert.match(await page.text("sample-rows"), /75 rows/);
  // The rows are still being checked by the task's schema when the file is refused.
  await page.page.locator('[data-testid="contribute"]:enabled').waitFor();
});

test("a file that is dropped is read like one that is picked", { timeout: 120_000 }, async () => {
  const text = good.split("\n").slice(0, 11).join("\n");
  const data = await page.page.evaluateHandle((text) => {
    const data = new DataTransfer();
    data.items.add(new File([text], "dropped.csv", { type: "text/csv" }));
    return data;
  }, text);
  const target = page.page.locator("label.source");
  await target.dispatchEvent("dragover", { dataTransfer: data });
  await page.page.locator("label.source.over").waitFor();
  await target.dispatchEvent("drop", { dataTransfer: data });
  await page.at("sample-rows").filter({ hasText: "10 rows from dropped.csv" }).waitFor();
  assert.equal(await page.page.locator("label.source.over").count(), 0);
  await page.page.locator('[data-testid="contribute"]:enabled').waitFor();
});

test("whom a contribution is not protected from is said before it is made", { timeout: 120_000 }, async () => {
  assert.match(await page.text("caution"), /makes all the other contributions of a round can work out yours/);
  const [caution, button] = await Promise.all(["caution", "contribute"].map((id) => page.at(id).boundingBox()));
  assert.ok(caution.y + caution.height <= button.y);
});

test("drawn digits become rows that fit the task", { timeout: 120_000 }, async () => {
  await page.at("data-draw").click();
  const mouse = page.page.mouse;
  for (const [label, points] of [["1", [[0.5, 0.1], [0.5, 0.9]]], ["7", [[0.3, 0.2], [0.7, 0.2], [0.4, 0.8]]]]) {
    const paper = page.at("draw-canvas");
    await paper.scrollIntoViewIfNeeded();
    const box = await paper.boundingBox();
    const place = ([x, y]) => [box.x + x * box.width, box.y + y * box.height];
    await mouse.move(...place(points[0]));
    await mouse.down();
    for (const point of points.slice(1)) await mouse.move(...place(point), { steps: 8 });
    await mouse.up();
    await page.at(`draw-label-${label}`).click();
    if (label === "7") await page.shoot("drawing");
    await page.at("draw-add").click();
  }
  await page.at("sample-rows").filter({ hasText: "2 rows drawn here" }).waitFor();
  // Two would be read off the update nearly as they were drawn.
  await page.at("to-draw").filter({ hasText: "8 more to draw" }).waitFor();
  assert.ok(await page.at("contribute").isDisabled());
  const cells = await page.at("preview").locator("tbody tr").evaluateAll((rows) => rows.map((row) => row.innerText.split("\t")));
  assert.deepEqual(cells.map((row) => [row.length, row.at(-1)]), [[65, "1"], [65, "7"]]);
  assert.ok(cells.flat().every((cell) => Number(cell) >= 0 && Number(cell) <= 16));
  for (let drawn = 2; drawn < 10; drawn += 1) {
    const box = await page.at("draw-canvas").boundingBox();
    await mouse.move(box.x + box.width * (0.3 + 0.04 * drawn), box.y + 0.2 * box.height);
    await mouse.down();
    await mouse.move(box.x + box.width / 2, box.y + 0.8 * box.height, { steps: 4 });
    await mouse.up();
    await page.at("draw-label-1").click();
    await page.at("draw-add").click();
  }
  await page.at("sample-rows").filter({ hasText: "10 rows drawn here" }).waitFor();
  await page.page.getByText("every value fits the task").waitFor();
  await page.page.locator('[data-testid="contribute"]:enabled').waitFor();
  assert.deepEqual(page.errors, []);
});

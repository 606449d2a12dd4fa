// Asking the model about rows that no server can read.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

import { ContributePage, browser } from "../lib/browser.mjs";
import { DIGITS, Mesh } from "../lib/mesh.mjs";

/** The class a softmax model gives each picture in the clear, and by how much it is ahead of the next one. */
function inTheClear(model, pictures) {
  const headerBytes = Number(model.readBigUInt64LE(0));
  const header = JSON.parse(model.subarray(8, 8 + headerBytes).toString());
  const tensor = (name) => {
    const [from, to] = header[name].data_offsets.map((at) => at + 8 + headerBytes);
    return Array.from({ length: (to - from) / 4 }, (_, at) => model.readFloatLE(from + 4 * at));
  };
  const weights = tensor("layer1.weight");
  const biases = tensor("layer1.bias");
  return pictures.map((pixels) => {
    const outputs = biases.map((bias, at) =>
      pixels.reduce((sum, pixel, input) => sum + (pixel / 8 - 1) * weights[input * biases.length + at], bias),
    );
    const [first, second] = outputs.map((value, at) => ({ value, at })).sort((a, b) => b.value - a.value);
    return { answer: String(first.at), ahead: first.value - second.value };
  });
}

test("a page asks the model about rows, and no server sees them", { timeout: 300_000 }, async (t) => {
  const mesh = await Mesh.start({ minBatch: 2 });
  t.after(() => mesh.stop());
  const chromium = await browser();
  t.after(() => chromium.close());
  const page = await ContributePage.open(await chromium.newContext(), mesh.url);
  await page.useSample();
  assert.match(await page.text("ask-hint"), /learnt nothing yet/);
  assert.ok(await page.at("ask").isDisabled());

  await Promise.all([0, 1].map(() => mesh.contribute({ data: DIGITS, rounds: 3 })));
  await page.page.locator('[data-testid="ask"]:enabled').click();
  await page.at("ask-note").waitFor();
  const answers = await page.at("answer").all();
  assert.equal(answers.length, 20);
  const right = await Promise.all(
    answers.map(async (row) => {
      const [, answer, , known] = await row.locator("td").allInnerTexts();
      return answer === known;
    }),
  );
  assert.ok(right.filter(Boolean).length >= 16, "the model knows most of the digits it was trained on");
  t.diagnostic(await page.text("ask-note"));
  await page.shoot("ask");

  // The same over the package, for more rows, beside the model in the clear.
  const [header, ...rows] = (await readFile(DIGITS, "utf8")).trim().split("\n").slice(0, 301);
  const asked = await page.page.evaluate(async (rows) => {
    const { joinMesh } = await import("/light/dist/index.js");
    const mesh = await joinMesh();
    return mesh.score({ task: "digits", rows });
  }, [header, ...rows].join("\n"));
  assert.equal(asked.scores.length, 300);
  assert.ok(asked.newest);
  const model = Buffer.from(await (await fetch(`${mesh.url}/api/v1/models/${asked.model}`)).arrayBuffer());
  const clear = inTheClear(model, rows.map((row) => row.split(",").slice(0, 64).map(Number)));
  // Quantising moves an output a little: only what is nearly a tie may come out otherwise.
  const other = asked.scores.filter(({ class: answer }, at) => answer !== clear[at].answer && clear[at].ahead > 0.1);
  assert.deepEqual(other, []);
  const times = asked.scores.map(({ ms }) => ms).sort((a, b) => a - b);
  t.diagnostic(`an answer takes ${times[150].toFixed(1)} ms in Chromium (median of 300), ${times[285].toFixed(1)} ms at most in 95 of 100`);
  assert.ok((await mesh.metric("questions_answered", asked.node)) >= 300);
  assert.deepEqual(page.errors, []);
});

test("what cannot be asked says why", { timeout: 300_000 }, async (t) => {
  const mesh = await Mesh.start({ minBatch: 2 });
  t.after(() => mesh.stop());
  await mesh.createLargeTask("wide", 20);
  const chromium = await browser();
  t.after(() => chromium.close());
  const page = await ContributePage.open(await chromium.newContext(), mesh.url);
  const [header, row] = (await readFile(DIGITS, "utf8")).split("\n");
  const refused = (options) =>
    page.page.evaluate(async (options) => {
      const { joinMesh } = await import("/light/dist/index.js");
      const mesh = await joinMesh();
      return mesh.score(options).then(
        () => "answered",
        ({ code, message }) => `${code}: ${message}`,
      );
    }, options);
  assert.match(await refused({ task: "wide", rows: `${header}\n${row}` }), /^unsuitable-model: .*hidden layer/);
  assert.match(await refused({ task: "digits", rows: `${header}\n${row.replace(/^\d+/, "17")}` }), /^bad-data: .*out of range/);
  assert.match(await refused({ task: "digits", rows: `${header}\n${row}`, node: "full-9" }), /^unknown-node: /);
  // One node that is down is no reason: another is asked.
  await mesh.killNode("full-1");
  for (let time = 0; time < 3; time += 1) {
    assert.equal(await refused({ task: "digits", rows: `${header}\n${row}` }), "answered");
  }
  assert.deepEqual(page.errors, []);
});

import assert from "node:assert/strict";
import { test } from "node:test";

import { ContributePage, browser } from "../lib/browser.mjs";
import { firefox, host, noFirefox } from "../lib/firefox.mjs";
import { DIGITS, Mesh } from "../lib/mesh.mjs";
import { until } from "../lib/process.mjs";

const NO_MANGLING = "--force-fieldtrials=WebRTC-NoSdpMangleUfrag/Enabled/";

for (const [name, ...flags] of [
  ["Chromium as it is"],
  ["a Chromium that refuses changed offers", NO_MANGLING],
]) {
  test(`a contribution goes over WebRTC from ${name}`, { timeout: 300_000 }, async (t) => {
    const mesh = await Mesh.start({ minBatch: 2 });
    t.after(() => mesh.stop());
    const chromium = await browser(...flags);
    t.after(() => chromium.close());
    const pages = await Promise.all(
      [0, 1].map(async () => ContributePage.open(await chromium.newContext(), mesh.url)),
    );
    await Promise.all(
      pages.map(async (page) => {
        await page.useSample();
        await page.contribute();
        await page.reaches("counted");
        assert.equal(await page.attribute("path", "data-path"), "webrtc", await page.text("path"));
        assert.deepEqual(page.errors, []);
      }),
    );
  });
}

test("a page that is closed is noticed, and so is one that is ended", { timeout: 300_000 }, async (t) => {
  const mesh = await Mesh.start({ minBatch: 3 });
  t.after(() => mesh.stop());
  const chromium = await browser();
  t.after(() => chromium.close());
  for (const [how, leave] of [
    ["closed", (page) => page.close()],
    ["ended", (page) => page.goto("chrome://crash").catch(() => {})],
  ]) {
    const page = await ContributePage.open(await chromium.newContext(), mesh.url);
    await page.useSample();
    await page.contribute();
    await page.reaches("sent");
    assert.equal(await mesh.metric("webrtc", "connections"), 1);
    const left = Date.now();
    await leave(page.page);
    await until("the connection to go", async () => (await mesh.metric("webrtc", "connections")) === 0);
    t.diagnostic(`a page that is ${how} is noticed after ${(Date.now() - left) / 1000} s`);
    assert.equal(await mesh.metric("webrtc", "streams"), 0);
  }
});

test("a contribution goes over WebRTC from Firefox", { timeout: 300_000, skip: noFirefox }, async (t) => {
  const mesh = await Mesh.start({ host, minBatch: 2 });
  t.after(() => mesh.stop());
  const browser = await firefox();
  t.after(() => browser.close());
  t.diagnostic(`Firefox ${browser.version}`);
  const attribute = (testid, name) =>
    browser.ask((id, name) => document.querySelector(`[data-testid="${id}"]`)?.getAttribute(name), testid, name);
  const click = (testid) =>
    until(`${testid} to be there`, () =>
      browser.ask((id) => {
        const button = document.querySelector(`[data-testid="${id}"]:enabled`);
        button?.click();
        return Boolean(button);
      }, testid),
    );
  await browser.open(mesh.url);
  await click("data-sample");
  await click("contribute");
  await until("the contribution to be sent", async () => (await attribute("step-sent", "data-state")) === "done");
  assert.equal(await attribute("path", "data-path"), "webrtc");

  // It is whole: with a second one the round counts both.
  const [other] = await mesh.contribute({ data: DIGITS });
  assert.equal(other.counted.reports, 2);
  await until("the contribution to be counted", async () => (await attribute("step-counted", "data-state")) === "done");
});

import assert from "node:assert/strict";
import { test } from "node:test";

import { ContributePage, browser } from "../lib/browser.mjs";
import { Mesh } from "../lib/mesh.mjs";

// Nothing leaves this browser over UDP.
const NO_UDP = "--force-webrtc-ip-handling-policy=disable_non_proxied_udp";
const noWebRtc = () => delete globalThis.RTCPeerConnection;

for (const [where, because, flags, script] of [
  ["UDP is blocked", /because no answer/, [NO_UDP], () => {}],
  ["the browser has no WebRTC", /because this browser has no WebRTC/, [], noWebRtc],
]) {
  test(`where ${where}, the report goes over HTTPS and the page says why`, { timeout: 300_000 }, async (t) => {
    const mesh = await Mesh.start();
    t.after(() => mesh.stop());
    const chromium = await browser(...flags);
    t.after(() => chromium.close());
    const context = await chromium.newContext();
    await context.addInitScript(script);
    const page = await ContributePage.open(context, mesh.url);
    await page.useSample();
    await page.contribute();
    await page.has("step-sealed", "data-state", "done");
    const sealed = Date.now();
    await page.has("path", "data-path", "https");
    const waited = Date.now() - sealed;
    // The promise of the mission, not of this machine's speed: WebRTC is given five seconds at most.
    assert.ok(waited < 5_000 + 2_000, `HTTPS was chosen after ${waited} ms`);
    await page.reaches("sent");
    assert.match(await page.text("path"), because);
    assert.deepEqual(page.errors, []);
    await page.shoot("https");
  });
}

test("over HTTPS the page shows how far the upload is", { timeout: 300_000 }, async (t) => {
  const mesh = await Mesh.start();
  t.after(() => mesh.stop());
  await mesh.createLargeTask("wide", 256);
  const chromium = await browser();
  t.after(() => chromium.close());
  const context = await chromium.newContext();
  await context.addInitScript(noWebRtc);
  await context.addInitScript(() => {
    globalThis.seen = [];
    new MutationObserver((changes) => {
      for (const { target } of changes) globalThis.seen.push(Number(target.dataset.sent));
    }).observe(document, { attributes: true, attributeFilter: ["data-sent"], subtree: true });
  });
  const page = await ContributePage.open(context, mesh.url);
  await page.at("task-wide").click();
  await page.useSample();
  await page.page.locator('[data-testid="contribute"]:enabled').waitFor();
  // Slow enough for a middle, whatever the machine.
  const network = await context.newCDPSession(page.page);
  const speed = { latency: 0, downloadThroughput: -1, uploadThroughput: 150_000 };
  await network.send("Network.emulateNetworkConditions", { offline: false, ...speed });
  await page.contribute();
  await page.reaches("sent");
  assert.equal(await page.attribute("path", "data-path"), "https");
  const total = Number(await page.attribute("upload-progress", "data-total"));
  const seen = await page.page.evaluate(() => globalThis.seen);
  assert.ok(seen.some((sent) => sent > 0 && sent < total), `${seen} of ${total}`);
  assert.equal(seen.at(-1), total);
  assert.deepEqual(page.errors, []);
});

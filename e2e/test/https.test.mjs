import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { test } from "node:test";

import { ContributePage, browser } from "../lib/browser.mjs";
import { Mesh } from "../lib/mesh.mjs";

const noWebRtc = () => delete globalThis.RTCPeerConnection;

/** The page's packets go to a port that takes them and says nothing. */
async function withoutUdp(t, context) {
  const silent = createSocket("udp4").bind(0, "127.0.0.1");
  await once(silent, "listening");
  t.after(() => silent.close());
  const { port } = silent.address();
  await context.route("**/api/v1/mesh", async (route) => {
    const body = await (await route.fetch()).text();
    await route.fulfill({ body: body.replaceAll(/udp\/\d+\/webrtc-direct/g, `udp/${port}/webrtc-direct`) });
  });
}

for (const [where, because, prepare] of [
  ["UDP is blocked", /because no answer over UDP/, withoutUdp],
  ["the browser has no WebRTC", /because this browser has no WebRTC/, (_, context) => context.addInitScript(noWebRtc)],
]) {
  test(`where ${where}, the report goes over HTTPS and the page says why`, { timeout: 300_000 }, async (t) => {
    const mesh = await Mesh.start();
    t.after(() => mesh.stop());
    const chromium = await browser();
    t.after(() => chromium.close());
    const context = await chromium.newContext();
    await prepare(t, context);
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

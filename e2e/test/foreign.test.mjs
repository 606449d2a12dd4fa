// A dialer that is not ours: js-libp2p, whose WebRTC-direct (@libp2p/webrtc 6.0.33) is version 1 and no other.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { browser } from "../lib/browser.mjs";
import { Mesh } from "../lib/mesh.mjs";
import { program, start, until } from "../lib/process.mjs";

const FOREIGN = new URL("../foreign/", import.meta.url);
const { build } = createRequire(FOREIGN)("esbuild");
const TIME = { timeout: 120_000 };

let page;
let chromium;
const server = createServer();

before(async () => {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL("page.mjs", FOREIGN))],
    bundle: true,
    format: "esm",
    write: false,
    logLevel: "warning",
  });
  server.on("request", ({ url }, response) => {
    const script = url === "/page.js";
    response.setHeader("content-type", script ? "text/javascript" : "text/html");
    response.end(script ? outputFiles[0].contents : '<!doctype html><script type="module" src="/page.js"></script>');
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  chromium = await browser();
  page = await (await chromium.newContext()).newPage();
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  await page.waitForFunction(() => globalThis.foreign);
});

after(async () => {
  await chromium?.close();
  server.close();
});

/** Calls what `foreign/page.mjs` offers. */
function foreign(name, ...args) {
  return page.evaluate(([name, args]) => globalThis.foreign[name](...args), [name, args]);
}

async function measuringNode(t) {
  const node = start(program(), ["bench", "--network", "--json"]);
  t.after(() => node.stop());
  const { address } = await until("its address", () => JSON.parse(node.text().split("\n")[0]));
  return { node, address };
}

const peerOf = (address) => address.split("/p2p/")[1];

test("js-libp2p, version 1: a full node proves who it is, and judges and counts a report", TIME, async (t) => {
  const mesh = await Mesh.start();
  t.after(() => mesh.stop());
  const { id, signed } = await mesh.get("/tasks/digits");
  const [leader] = JSON.parse(signed.payload).members;
  const { nodes } = await mesh.get("/mesh");
  const { addresses, http } = nodes.find((node) => node.id === leader.node);
  const address = addresses.find((address) => address.includes("/webrtc-direct/"));
  assert.equal(await foreign("meet", address), peerOf(address));

  const { offset, code, text, status } = await foreign("upload", address, [...Buffer.from(id, "base64url")], 5_000);
  assert.deepEqual({ offset, code, status }, { offset: 0, code: 1, status: "closed" });
  assert.match(text, /^The report could not be decoded/);
  const metrics = await (await fetch(`${http}/metrics`)).text();
  assert.match(metrics, /^defim_refused_uploads\{.*reason="malformed".*\} 1$/m);
});

test("js-libp2p, version 1: megabytes each way, byte for byte, and a stream that either side closes first", TIME, async (t) => {
  const { address } = await measuringNode(t);
  for (const length of [0, 1, 8_000_000]) {
    const down = await foreign("down", address, length);
    assert.deepEqual([down.equal, down.status, down.flags[0]], [true, "closed", "FIN"], `${length} bytes down`);
    const up = await foreign("up", address, length);
    assert.deepEqual([up.answer, up.status], ["1", "closed"], `${length} bytes up`);
    // The page's FIN was read, and is answered as the node's own is sent.
    assert.ok(up.flags.includes("FIN") && up.flags.includes("FIN_ACK"), String(up.flags));
    assert.ok(![...down.flags, ...up.flags].includes("RESET"));
    // Messages of nearly the 16 KiB that are allowed.
    if (length > 1) assert.ok(down.received > 16_000 && up.sent > 16_000, `${down.received}, ${up.sent}`);
  }
  assert.equal((await foreign("up", address, 1_000_000, 777_777)).answer, "0");
});

test("js-libp2p, version 1: a node with another certificate or another key is refused", TIME, async (t) => {
  const [one, two] = [await measuringNode(t), await measuringNode(t)];
  const certhash = /certhash\/[^/]+/;
  const certificate = await foreign("refused", one.address.replace(certhash, two.address.match(certhash)[0]));
  assert.deepEqual(certificate, { name: "TimeoutError", states: ["connecting", "failed"] });
  const key = await foreign("refused", one.address.replace(peerOf(one.address), peerOf(two.address)));
  assert.equal(key.name, "UnexpectedPeerError");
  assert.equal(await foreign("meet", one.address), peerOf(one.address));
});

test("js-libp2p, version 1: each side notices that the other has ended the connection", TIME, async (t) => {
  const { node, address } = await measuringNode(t);
  // A node keeps eight connections of one peer: places that are free again show that it noticed.
  for (let i = 0; i < 8; i += 1) assert.ok(await foreign("another", address), `connection ${i}`);
  assert.equal(await foreign("another", address), false);
  await foreign("hangUp");
  await until("a free place", () => foreign("another", address), { within: 20_000 });
  await node.stop();
  await until("the page to notice", async () => (await foreign("connections")) === 0, { within: 30_000 });
});

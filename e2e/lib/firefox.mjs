// Firefox, through geckodriver: the few calls of W3C WebDriver that a test of one page needs.
import { once } from "node:events";
import { createServer } from "node:net";
import { networkInterfaces } from "node:os";

import { start, until } from "./process.mjs";

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

/** An address of this machine that Firefox connects to: it leaves loopback out of ICE. */
export const host = Object.values(networkInterfaces())
  .flat()
  .find(({ family, internal }) => family === "IPv4" && !internal)?.address;

/** Why there is nothing to drive here; false if there is. */
export const noFirefox = !(process.env.FIREFOX && process.env.GECKODRIVER)
  ? "no Firefox or no geckodriver; cargo xtask setup says what to install"
  : !host && "no network but loopback, which Firefox leaves out of ICE";

/** A Firefox with a fresh profile and one window. */
export async function firefox() {
  const port = await freePort();
  const driver = start(process.env.GECKODRIVER, ["--port", port, "--websocket-port", await freePort()].map(String));
  const call = async (method, path, body) => {
    const answer = await fetch(`http://127.0.0.1:${port}${path}`, {
      method,
      body: body && JSON.stringify(body),
      headers: { "content-type": "application/json" },
    });
    const { value } = await answer.json();
    if (!answer.ok) throw new Error(`${method} ${path}: ${value.message}`);
    return value;
  };
  await until("geckodriver", async () => (await call("GET", "/status")).ready);
  const options = {
    binary: process.env.FIREFOX,
    args: ["-headless"],
    // As if the mesh had a certificate.
    prefs: { "dom.securecontext.allowlist": host },
  };
  const capabilities = { alwaysMatch: { "moz:firefoxOptions": options } };
  const { sessionId, capabilities: given } = await call("POST", "/session", { capabilities });
  const session = `/session/${sessionId}`;
  return {
    version: given.browserVersion,
    open: (url) => call("POST", `${session}/url`, { url }),
    /** Runs a function in the page and gives its result. */
    ask: (work, ...args) =>
      call("POST", `${session}/execute/sync`, { script: `return (${work})(...arguments)`, args }),
    async close() {
      await call("DELETE", session);
      await driver.stop();
    },
  };
}

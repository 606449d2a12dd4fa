// A mesh on loopback that keeps the canned ledger.
import { once } from "node:events";
import { createServer } from "node:http";
import { answer, ledgerAt } from "./served.mjs";

export { canned, handOvers, task } from "./served.mjs";

export async function mesh(t, { height = 6, ...changes } = {}) {
  const ledger = ledgerAt(height, changes);
  const asked = [];
  const uploads = [];
  const server = createServer(async (request, response) => {
    for await (const chunk of request) void chunk;
    const { method, url } = request;
    asked.push(url);
    if (method === "PUT") {
      uploads.push(url);
      response.writeHead(201).end();
      return;
    }
    const { status, json, bytes } = answer(ledger, url);
    response.writeHead(status, bytes ? {} : { "content-type": "application/json" }).end(bytes ?? JSON.stringify(json));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.closeAllConnections?.() ?? undefined);
  t.after(() => server.close());
  return { base: `http://127.0.0.1:${server.address().port}`, ledger, asked, uploads };
}

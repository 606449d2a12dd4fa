// The pages against a mesh of canned answers: its ledger is small, real and signed; nothing else of it is there.
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join } from "node:path";

import { answer, canned, fixture, ledgerAt, task } from "../../pkg/test/served.mjs";

const TYPES = { ".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".wasm": "application/wasm", ".svg": "image/svg+xml" };
const PAGES = ["/", "/ledger"];

const short = `${canned.states.account.slot.split(".")[1].slice(0, 8)}…`;
/** What the blocks hold, in words, as the mesh would put it. */
const HELD = [
  [["enrol-node", "The admin lets aggregation take part as the aggregation node"], ["enrol-node", "The admin lets validation-5 take part as a validation node"], ["enrol-node", "The admin lets full-1 take part as a full node"], ["enrol-node", "The admin lets full-2 take part as a full node"], ["enrol-node", "The admin lets full-3 take part as a full node"]],
  [["create-task", "The admin puts the task digits on the ledger"], ["fund-task", "The admin gives the task digits 10,000"], ["set-validators", "The admin names 4 validators from epoch 1 on"]],
  [["transfer", `The admin gives 250 to ${short}`]],
  [["transfer", `The admin gives 250 to ${short}`]],
  [["transfer", `The admin gives 250 to ${short}`], ["round-opened", "aggregation opens round 1 of digits", 1]],
  [["batch-closed", "The committee of full-1 and full-2 closes its batch: 5 reports, 0 refused", 1], ["opened", "aggregation opens the total of round 1", 1], ["model-updated", "aggregation proposes the model of round 1", 1]],
  ["2", "3", "4", "5"].map((number) => ["vote", `validation-${number} accepts round 1: accuracy 90.5 %`, 1]),
  [["round-opened", "aggregation opens round 2 of digits", 2]],
  [["transfer", `The admin gives 250 to ${short}`]],
];

function block(height) {
  const { digest, epoch, timestampMs } = canned.headers[height - 1];
  const txs = HELD[height - 1].map(([kind, text, round]) => ({ id: digest, from: digest, kind, text, ...(round && { task: fixture.task, round }) }));
  const signers = (epoch === 0 ? [1, 2, 4] : [2, 4, 5]).map((number) => `validation-${number}`);
  return { height, digest, epoch, timestampMs, txs, signers };
}

export class CannedMesh {
  /** Serves the chain up to a height. */
  static async start(height, changes = {}) {
    const self = new CannedMesh();
    self.ledger = ledgerAt(height, {
      blocks: (query) => {
        const before = Number(query.get("before") ?? self.ledger.height + 1);
        const first = Math.min(before - 1, self.ledger.height);
        const count = Math.min(Number(query.get("limit") ?? 20), first, self.most ?? 100);
        return Array.from({ length: count }, (_, at) => block(first - at));
      },
      view: { ...task, initial: { loss: 2.3, accuracy: 0.1, r2: null, rows: 360 }, sample: "/sample.csv" },
      ...changes,
    });
    self.server = createServer((request, response) => {
      self.#serve(request, response).catch(() => response.writeHead(500).end());
    });
    self.server.listen(0, "127.0.0.1");
    await once(self.server, "listening");
    self.url = `http://127.0.0.1:${self.server.address().port}`;
    return self;
  }

  stop() {
    this.server.closeAllConnections();
    this.server.close();
  }

  async #serve(request, response) {
    for await (const chunk of request) void chunk;
    const { pathname, search } = new URL(request.url, this.url);
    const json = (body, status = 200) => response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    if (pathname === "/api/v1/events") {
      response.writeHead(200, { "content-type": "text/event-stream" }).write(":\n\n");
    } else if (pathname.startsWith("/api/v1/")) {
      if (this.down) return void request.socket.destroy();
      if (this.ledger.elsewhere && pathname.startsWith("/api/v1/ledger/")) {
        const { status, bytes } = await this.ledger.elsewhere(pathname + search);
        return void response.writeHead(status, { "content-type": "application/json" }).end(bytes);
      }
      const { status, json: body, bytes } = answer(this.ledger, pathname + search);
      if (bytes) response.writeHead(status).end(bytes);
      else json(body, status);
    } else if (request.method === "PUT") {
      Object.assign(this.ledger, this.after);
      response.writeHead(201).end();
    } else if (pathname.startsWith("/nodes/")) json({ state: "verified", reason: null, text: null });
    else if (pathname === "/sample.csv") {
      response.end(await readFile(new URL("../../crates/learn/data/digits.csv", import.meta.url)));
    } else {
      const file = PAGES.includes(pathname) ? "/index.html" : pathname;
      const bytes = await readFile(join(process.env.DEFIM_SITE, file)).catch(() => undefined);
      response.writeHead(bytes ? 200 : 404, { "content-type": TYPES[extname(file)] ?? "text/plain" }).end(bytes);
    }
  }
}

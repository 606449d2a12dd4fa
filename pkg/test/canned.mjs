// The canned chain, and a mesh on loopback that serves it.
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { fixture, model } from "./light.mjs";

export const canned = JSON.parse(readFileSync(new URL("../../crates/ledger/vectors/chain.json", import.meta.url), "utf8"));
const { headers, states } = canned;
/** The last header of each epoch. */
export const handOvers = headers.filter(({ height }) => height % canned.epochBlocks === canned.epochBlocks - 1);

export const task = {
  id: fixture.task, name: "digits", title: "Digits", summary: "", model: "softmax", dimension: fixture.dimension,
  paused: false, signed: fixture.manifest, initial: null, currentModel: fixture.baseModel, sample: null, roundsDone: 0,
  rounds: 10,
  round: {
    round: 1, signed: fixture.round, baseModel: fixture.baseModel, openedMs: fixture.openedMs,
    deadlineMs: fixture.deadlineMs, phase: { phase: "waiting-for-reports", have: 0, need: 3 },
    text: "Waiting for 3 more contributions", acceptsReports: true, pending: 0, verified: 0, rejected: {}, minBatch: 3,
    maxBatch: 50, ledger: { height: 5 },
  },
};
const nodes = fixture.members.map((id, at) => ({
  id, name: `full-${at + 1}`, role: "full", http: `/nodes/full-${at + 1}`, addresses: [], reachable: true,
}));

/** Serves the chain up to block `ledger.height`. What a test changes in `ledger` holds from the next answer on. */
export async function mesh(t, changes = {}) {
  const ledger = {
    height: 6, claimed: canned.chain, genesis: canned.genesis, opening: canned.openings[0], receipt: canned.receipt,
    state: (slot) => Object.values(states).find((state) => state.slot === slot && state !== states.round1Open),
    head: () => headers[ledger.height - 1], view: task, ...changes,
  };
  const asked = [];
  const uploads = [];
  const server = createServer(async (request, response) => {
    for await (const chunk of request) void chunk;
    const { method, url } = request;
    asked.push(url);
    const json = (body, status = 200) => {
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    };
    const at = url.slice("/api/v1/ledger/".length);
    const found = (body) => (body === undefined ? json({ code: "not-found", message: "There is none (yet)." }, 404) : json(body));
    if (method === "PUT") {
      uploads.push(url);
      response.writeHead(201).end();
    } else if (url === "/api/v1/mesh") {
      const chain = ledger.claimed;
      json({ aggregation: { id: fixture.aggregation, name: "agg" }, nodes, ledger: chain && { chain, height: ledger.height } });
    } else if (url.startsWith("/api/v1/tasks/")) json(ledger.view);
    else if (url === `/api/v1/models/${fixture.baseModel}`) response.end(model);
    else if (!url.startsWith("/api/v1/ledger/")) json({ code: "not-found", message: "not found" }, 404);
    else if (at === "genesis") json({ chain: ledger.claimed, genesis: ledger.genesis });
    else if (at === "head") json(ledger.head());
    else if (at.startsWith("handovers?from=")) {
      const from = Number(at.split("=")[1]);
      json(handOvers.filter(({ epoch, height }) => epoch >= from && height <= ledger.height));
    } else if (at.startsWith("state/")) found(ledger.state(decodeURIComponent(at.slice(6))));
    else if (at.startsWith("opening/")) found(typeof ledger.opening === "function" ? ledger.opening() : ledger.opening);
    else if (at.startsWith("receipt/")) found(ledger.receipt);
    else json({}, 404);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.closeAllConnections?.() ?? undefined);
  t.after(() => server.close());
  return { base: `http://127.0.0.1:${server.address().port}`, ledger, asked, uploads };
}

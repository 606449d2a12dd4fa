// What a mesh answers that keeps the canned ledger: for the tests here, and for those of the pages.
import { readFileSync } from "node:fs";

const read = (path) => JSON.parse(readFileSync(new URL(path, import.meta.url), "utf8"));
export const fixture = read("fixture.json");
export const canned = read("../../crates/ledger/vectors/chain.json");
const { headers, states, epochBlocks } = canned;
/** The last header of each epoch. */
export const handOvers = headers.filter(({ height }) => height % epochBlocks === epochBlocks - 1);

export const task = {
  id: fixture.task, name: "digits", title: "Read handwritten digits", summary: "Learns to tell the digits 0 to 9.", model: "softmax",
  dimension: fixture.dimension, paused: false, signed: fixture.manifest, initial: null, currentModel: fixture.baseModel,
  sample: null, roundsDone: 0, rounds: 10,
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

/** A ledger up to block `height`. What a test changes in it holds from the next answer on. */
export function ledgerAt(height, changes = {}) {
  const ledger = {
    height, claimed: canned.chain, genesis: canned.genesis, opening: canned.openings[0], receipt: canned.receipt,
    // The newest there is.
    state: (slot) =>
      Object.values(states).filter((state) => state.slot === slot && state.height <= ledger.height).sort((a, b) => b.height - a.height)[0],
    head: () => headers[ledger.height - 1], view: task, blocks: () => [], ...changes,
  };
  return ledger;
}

const missing = { status: 404, json: { code: "not-found", message: "There is none (yet)." } };

/** The answer to a GET under `/api/v1/`: `{ status, json }` or `{ bytes }`. */
export function answer(ledger, url) {
  const found = (json) => (json === undefined ? missing : { status: 200, json });
  const path = url.slice("/api/v1/".length);
  const chain = ledger.claimed;
  if (path === "mesh") {
    return found({ aggregation: { id: fixture.aggregation, name: "agg" }, nodes, ledger: chain && { chain, height: ledger.height } });
  }
  if (path === "tasks") return found(ledger.tasks?.() ?? [ledger.view]);
  if (path.startsWith("tasks/")) return path.split("/").length === 2 ? found(ledger.view) : missing;
  if (path === `models/${fixture.baseModel}`) return { status: 200, bytes: Buffer.from(fixture.model, "base64") };
  if (!path.startsWith("ledger/")) return missing;
  const at = path.slice("ledger/".length);
  if (at === "genesis") return found({ chain, genesis: ledger.genesis });
  if (at === "head") return found(ledger.head());
  if (at.startsWith("handovers?from=")) {
    const from = Number(at.split("=")[1]);
    return found(handOvers.filter(({ epoch, height }) => epoch >= from && height <= ledger.height));
  }
  if (at.startsWith("blocks")) return found(ledger.blocks(new URLSearchParams(at.split("?")[1])));
  if (at.startsWith("state/")) return found(ledger.state(decodeURIComponent(at.slice(6))));
  if (at.startsWith("opening/")) return found(typeof ledger.opening === "function" ? ledger.opening() : ledger.opening);
  if (at.startsWith("receipt/")) return found(ledger.receipt);
  return missing;
}

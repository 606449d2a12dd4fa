import { LightError } from "./error.js";
import type { Given, LedgerRound, Receipt, Reward } from "./types.js";

/** A reward with the receipt by which it is claimed. */
export interface Owed extends Reward {
  receipt: Receipt;
}

/** How what was given is looked up. */
export interface LookUp {
  round: (round: number) => Promise<Pick<LedgerRound, "stage" | "perReport"> | null>;
  receipt: (given: Given) => Promise<Receipt>;
}

/** Why there may be no receipt, which says nothing of the others. */
const NOT_ASKED = new Set(["aborted", "mesh-unreachable"]);

/** What can be claimed for what was given to a task, oldest first; `claimed` are the rounds that were paid. */
export async function owed(all: Given[], claimed: number[], { round, receipt }: LookUp): Promise<Owed[]> {
  const found: Owed[] = [];
  for (const given of newestOfRounds(all)) {
    if (claimed.includes(given.round)) continue;
    const standing = await round(given.round);
    // The ledger has a task's newest rounds. What is older than one that is gone is gone too.
    if (standing === null) break;
    if (standing.stage !== "finished" || !standing.perReport) continue;
    const counted = await receipt(given).catch(noReceipt);
    if (counted !== undefined) found.unshift({ round: given.round, points: standing.perReport, receipt: counted });
  }
  return found;
}

/** One contribution of each round, the newest round first. */
function newestOfRounds(all: Given[]): Given[] {
  const rounds = new Map<number, Given>();
  for (const given of all) if (!rounds.get(given.round)?.receipt) rounds.set(given.round, given);
  return [...rounds.values()].sort((a, b) => b.round - a.round);
}

function noReceipt(error: unknown): undefined {
  if (!(error instanceof LightError) || NOT_ASKED.has(error.code)) throw error;
}

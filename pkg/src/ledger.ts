import type { Api } from "./api.js";
import { asLightError, LightError } from "./error.js";
import { forgetChain, keepChain, keptChain } from "./store.js";
import type { Balance, Enrolled, FinalBlock, LedgerRound, LedgerStatus, Receipt, ServedOpening, SignedText } from "./types.js";
import type { Chain } from "../wasm/light.js";
import { loadLight } from "./wasm.js";

/** How long a round's opening is waited for to become final. */
const FINAL_MS = 10_000;
/** How long an opening may be in none of the blocks that validators look through, before the round is looked for in the state. */
const UNLISTED_MS = 2_000;
/** Why the state does not show a round's opening yet, and may in a moment. */
const NOT_YET = new Set(["no-such-round", "not-found", "past-epoch", "older-state"]);
/** How long an enrolment is waited for. */
const ENROL_MS = 20_000;
/** The same for one that was refused. */
const REFUSED_MS = 4_000;
/** How long claims are waited for since the last one that was carried out, and how many wait for blocks at the same time. */
const CLAIM_MS = 20_000;
const CLAIMS_TOGETHER = 16;
/** Another transaction of the account came first, which another tab has sent; or the round is claimed, and the state shows it soon. */
const CAME_SECOND = new Set(["refused", "nonce-used", "nonce-ahead", "already-claimed"]);
const ASK_EVERY_MS = 500;
/**
 * How long a newer state is asked for, and how often, where the one that was served is older than what was verified before: an
 * aggregation node that asks a validator that is behind asks another one first 2 s later.
 */
const BEHIND_MS = 3_000;
const BEHIND_EVERY_MS = 250;
/** How long one check may take with all that is fetched for it; others wait for it. */
const CHECK_MS = 15_000;
const KEY = /^[A-Za-z0-9_-]{43}$/;

/** A block as the wasm gives it. */
interface Block {
  height: number;
  digest: string;
  epoch: number;
  timestampMs: number;
  signers: { node: string; name: string | null }[];
  validators: number;
}

/** An opening that was found to be final, with what a worker needs to find it so itself. */
export interface FinalOpening {
  block: FinalBlock;
  /** The light chain just before the check. */
  chain: Uint8Array<ArrayBuffer>;
  /** What was served, as JSON. */
  served: string;
  ms: number;
}

/** The same as the wasm gives it. */
type FoundOpening = Pick<FinalOpening, "chain" | "served"> & { block: Block };

/** The chain that is followed, and on whose word. */
interface Followed {
  light: Chain;
  trust: LedgerStatus["trust"];
}

/** A mesh's ledger: it fetches what the light chain asks for, and hands it over to be checked. */
export class Ledger {
  readonly #api: Api;
  /** The chain id that the caller has given. */
  readonly #given: string | undefined;
  #followed: Promise<Followed> | undefined;
  #last: Promise<unknown> = Promise.resolve();

  constructor(api: Api, given: string | undefined) {
    if (given !== undefined && !KEY.test(given)) {
      throw new LightError("bad-chain", `"${given}" is not the id of a ledger; it has 43 letters, digits, - and _.`);
    }
    this.#api = api;
    this.#given = given;
  }

  /**
   * Whether the mesh keeps a ledger, by what it says now (`claimed`) and what is known of it. A mesh that once had one
   * cannot talk its light nodes out of checking.
   */
  async expects(claimed: string | undefined): Promise<boolean> {
    const pinned = this.#given ?? (await keptChain(this.#api.base))?.chain;
    if (pinned === undefined) return claimed !== undefined;
    if (claimed === undefined) {
      throw new LightError(
        "ledger-gone",
        `This mesh says that it keeps no ledger, but it is known by ledger ${pinned}. Nothing was sent. Try again later; if its operators confirm that they gave the ledger up, forget it here.`,
      );
    }
    if (claimed !== pinned) throw otherChain(pinned, claimed, this.#given !== undefined);
    return true;
  }

  /** Drops what was trusted on first use. */
  async forget(): Promise<void> {
    this.#followed = undefined;
    await forgetChain(this.#api.base);
  }

  /** Follows to the newest final block. */
  status(claimed: string | undefined, signal: AbortSignal): Promise<LedgerStatus> {
    return this.#alone(signal, (own) => this.#status(claimed, own));
  }

  async #status(claimed: string | undefined, signal: AbortSignal): Promise<LedgerStatus> {
    const { light, trust } = await this.#follow(claimed, signal);
    const head = JSON.stringify(await this.#api.head(signal));
    const watch = new Stopwatch();
    await this.#reach(light, head, signal, watch);
    const block = watch.run(() => light.advance(head)) as Block;
    const shown = await this.#shown(light, block, signal);
    await this.#keep(light, trust);
    // Blocks of this epoch stay final for ever: whoever replays an old head keeps what came after it from this device.
    const seen = await this.#seen(light);
    return { chain: light.chain, ...shown, verified: true, seen, ms: watch.ms, trust };
  }

  /** Height of the newest final block that was verified on this device, here or in another tab. */
  async #seen(light: Chain): Promise<number> {
    const kept = await keptChain(this.#api.base);
    return Math.max(light.height, kept?.chain === light.chain ? (kept.height ?? 0) : 0);
  }

  /** Waits until exactly this opening is final. */
  async opening(
    claimed: string | undefined, task: string, round: number, statement: SignedText, signal: AbortSignal,
  ): Promise<FinalOpening> {
    const started = performance.now();
    for (;;) {
      const unlisted = performance.now() - started > UNLISTED_MS;
      const found = await this.#alone(signal, (own) => this.#opening(claimed, task, round, statement, unlisted, own));
      if (found !== undefined) return { ...found, ms: performance.now() - started };
      if (performance.now() - started > FINAL_MS) {
        throw new LightError(
          "not-final",
          `The opening of round ${round} did not become final on the ledger within ${FINAL_MS / 1000} s, so nothing was trained. Try again in a moment.`,
        );
      }
      await pause(ASK_EVERY_MS, signal);
    }
  }

  async #opening(
    claimed: string | undefined, task: string, round: number, statement: SignedText, unlisted: boolean, signal: AbortSignal,
  ): Promise<Omit<FinalOpening, "ms"> | undefined> {
    const { light, trust } = await this.#follow(claimed, signal);
    const text = JSON.stringify(statement);
    const look = (served: string): FoundOpening => {
      // An epoch's last block moves the chain on, and could not be checked again after it.
      const chain = light.bytes() as Uint8Array<ArrayBuffer>;
      return { block: light.checkOpening(task, round, text, served) as Block, chain, served };
    };
    const stated = (): Promise<FoundOpening> => this.#newest(light, `round.${task}.${round}`, signal, look);
    const opening = await this.#api.opening(task, round, signal);
    // After a start validators look for openings in their newest blocks only; the state has every round that is open.
    if (opening === undefined && !unlisted) return undefined;
    const found = await (opening === undefined ? unlessNotYet(stated) : this.#check(light, opening, look, stated, signal));
    if (found === undefined) return undefined;
    const block = await this.#shown(light, found.block, signal);
    await this.#keep(light, trust);
    return { ...found, block };
  }

  async #check(
    light: Chain, opening: ServedOpening, look: (served: string) => FoundOpening, stated: () => Promise<FoundOpening>, signal: AbortSignal,
  ): Promise<FoundOpening> {
    try {
      const served = JSON.stringify(opening);
      await this.#reach(light, served, signal);
      return refusing(() => look(served));
    } catch (error) {
      // The signatures of an epoch that is over count no longer; the newest state has the round too.
      if (!isPast(error)) throw error;
      return stated();
    }
  }

  /** The receipt of a counted report. */
  receipt(claimed: string | undefined, task: string, round: number, report: string, signal: AbortSignal): Promise<Receipt> {
    return this.#alone(signal, (own) => this.#receipt(claimed, task, round, report, own));
  }

  async #receipt(claimed: string | undefined, task: string, round: number, report: string, signal: AbortSignal): Promise<Receipt> {
    const { light, trust } = await this.#follow(claimed, signal);
    const found = await this.#api.receipt(task, round, report, signal);
    if (found === undefined) {
      throw new LightError("not-counted", `The ledger has no receipt for this contribution to round ${round} yet. It has one once the validators have accepted the round.`);
    }
    const served = JSON.stringify(found);
    const watch = new Stopwatch();
    await this.#reach(light, served, signal, watch);
    const { block, ...counted } = watch.run(() => light.checkReceipt(task, round, report, served)) as {
      block: Block; model: string; accepted: number; reward: number;
    };
    const shown = await this.#shown(light, block, signal);
    await this.#keep(light, trust);
    const { receipt, header, certificate, below = [] } = found;
    return {
      chain: light.chain, task, round, report, ...counted, ...shown, ms: watch.ms, verifiedMs: Date.now(),
      served: { receipt, header, certificate, below },
    };
  }

  /** What an account has. */
  async balance(claimed: string | undefined, node: string, signal: AbortSignal): Promise<Balance> {
    if (!KEY.test(node)) throw new LightError("bad-key", `"${node}" is not a key; it has 43 letters, digits, - and _.`);
    const { value, ...proven } = await this.#state(claimed, `account.${node}`, signal, (light, served) => light.checkAccount(node, served));
    const { balance, nonce } = value as { balance: number; nonce: number };
    return { node, balance, nonce, ...proven };
  }

  /** Whether a light node takes part in a task. */
  async light(claimed: string | undefined, task: string, key: string, signal: AbortSignal): Promise<Omit<Enrolled, "kept">> {
    const { value, ...proven } = await this.#state(
      claimed, `light.${task}.${key}`, signal, (light, served) => light.checkLight(task, key, served),
    );
    const { active, claimed: paid } = value as { active: boolean | null; claimed: number[] };
    return { key, state: active === null ? "none" : active ? "active" : "removed", claimed: paid, ...proven };
  }

  /** Sends the transaction by which a light node enrols, and waits until it takes part. `sign` makes it for a chain, with the account's next number. */
  async enrol(
    claimed: string | undefined, task: string, key: string,
    sign: (chain: string, nonce: number) => Uint8Array<ArrayBuffer>, signal: AbortSignal,
  ): Promise<Omit<Enrolled, "kept">> {
    const before = await this.light(claimed, task, key, signal);
    if (before.state === "active") return before;
    const { nonce } = await this.balance(claimed, key, signal);
    const { light } = await this.#follow(claimed, signal);
    const tx = refusing(() => sign(light.chain, nonce));
    const refused = await this.#api.submit(tx, signal).then(() => undefined, (error: unknown) => error);
    const started = performance.now();
    for (;;) {
      const now = await this.light(claimed, task, key, signal);
      // Refused on the word of those who answered first: others may have taken it. Or another tab has been quicker.
      if (now.state === "active") return now;
      const waited = performance.now() - started;
      if (refused !== undefined && waited > REFUSED_MS) throw refused;
      if (waited > ENROL_MS) {
        throw new LightError(
          "not-final",
          `The enrolment was sent, and is in no final block after ${ENROL_MS / 1000} s. The ledger goes on when three of four validation nodes work. Try again in a moment.`,
        );
      }
      await pause(ASK_EVERY_MS, signal);
    }
  }

  /** Claims rewards for a key, and waits until it has all of them. */
  async claim(claimed: string | undefined, task: string, key: string, wanted: SignedClaim[], signal: AbortSignal): Promise<void> {
    const { light: chain } = await this.#follow(claimed, signal);
    let [sentFrom, since] = [-1, performance.now()];
    let refused: unknown;
    for (;;) {
      const { nonce } = await this.balance(claimed, key, signal);
      const { claimed: paid } = await this.light(claimed, task, key, signal);
      const left = wanted.filter(({ round }) => !paid.includes(round));
      if (left.length === 0) return;
      // The account has gone on: with what was sent, or with what came before it.
      if (nonce !== sentFrom) {
        [sentFrom, since] = [nonce, performance.now()];
        refused = await this.#sendClaims(chain.chain, nonce, left.slice(0, CLAIMS_TOGETHER), signal);
      }
      const waited = performance.now() - since;
      if (waited > REFUSED_MS && refused !== undefined && !cameSecond(refused)) throw refused;
      if (waited > CLAIM_MS) throw claimLate(left.length);
      await pause(ASK_EVERY_MS, signal);
    }
  }

  /** With ascending numbers, up to the first that is refused: those after it would leave a gap. */
  async #sendClaims(chain: string, nonce: number, claims: SignedClaim[], signal: AbortSignal): Promise<unknown> {
    for (const [at, { sign }] of claims.entries()) {
      const tx = refusing(() => sign(chain, nonce + at));
      const refused = await this.#api.submit(tx, signal).then(() => undefined, (error: unknown) => error);
      if (refused !== undefined) return refused;
    }
    return undefined;
  }

  /** Where a round stands. */
  async round(claimed: string | undefined, task: string, round: number, signal: AbortSignal): Promise<LedgerRound | null> {
    const { value, ...proven } = await this.#state(
      claimed, `round.${task}.${round}`, signal, (light, served) => light.checkRound(task, round, served),
    );
    const found = (value as { round: Omit<LedgerRound, keyof FinalBlock | "ms"> | null }).round;
    return found === null ? null : { ...found, ...proven };
  }

  #state(
    claimed: string | undefined, slot: string, signal: AbortSignal, check: (light: Chain, served: string) => unknown,
  ): Promise<FinalBlock & { value: unknown; ms: number }> {
    return this.#alone(signal, (own) => this.#proven(claimed, slot, own, check));
  }

  async #proven(
    claimed: string | undefined, slot: string, signal: AbortSignal, check: (light: Chain, served: string) => unknown,
  ): Promise<FinalBlock & { value: unknown; ms: number }> {
    const { light, trust } = await this.#follow(claimed, signal);
    const watch = new Stopwatch();
    const { block, ...value } = await this.#newest(light, slot, signal, (served) => check(light, served) as { block: Block }, watch);
    const shown = await this.#shown(light, block, signal);
    await this.#keep(light, trust);
    return { value, ...shown, ms: watch.ms };
  }

  /**
   * What stands at a place in the newest state. One of some time ago proves what is no longer so, and is not taken: but one
   * validator may be a block or two behind another one's head, and a newer state is then a moment away.
   */
  async #newest<T extends { block: Block }>(
    light: Chain, slot: string, signal: AbortSignal, check: (served: string) => T, watch = new Stopwatch(),
  ): Promise<T> {
    // What was known when it was asked: an answer that another one overtakes is as good.
    const floor = await this.#seen(light);
    const started = performance.now();
    for (;;) {
      const served = JSON.stringify(await this.#api.state(slot, signal));
      await this.#reach(light, served, signal, watch);
      let older: LightError;
      try {
        const found = watch.run(() => check(served));
        if (found.block.height >= floor) return found;
        older = olderState(found.block.height, floor);
      } catch (error) {
        if (!isPast(error)) throw error;
        older = error;
      }
      if (performance.now() - started > BEHIND_MS) throw older;
      await pause(BEHIND_EVERY_MS, signal);
    }
  }

  /**
   * One check after the other, with all that it fetches: while one waits for hand-overs, another would move the chain on, and
   * what was served to the first would be of an epoch that is over.
   */
  #alone<T>(signal: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const mine = this.#last.then(() => work(AbortSignal.any([signal, AbortSignal.timeout(CHECK_MS)])));
    this.#last = mine.catch(() => {});
    return mine;
  }

  async #follow(claimed: string | undefined, signal: AbortSignal): Promise<Followed> {
    if (!(await this.expects(claimed))) {
      throw new LightError("no-ledger", "This mesh keeps no ledger, so there is nothing to check here.");
    }
    this.#followed ??= this.#open(claimed, signal).catch((error: unknown) => {
      this.#followed = undefined;
      throw error;
    });
    return this.#followed;
  }

  async #open(claimed: string | undefined, signal: AbortSignal): Promise<Followed> {
    const { Chain } = await loadLight();
    const kept = await keptChain(this.#api.base);
    const pinned = this.#given ?? kept?.chain;
    const trust = this.#given === undefined ? "first-use" : "pinned";
    if (kept !== undefined && kept.chain === pinned) {
      try {
        const light = Chain.restore(kept.bytes);
        if (light.chain === pinned) return { light, trust };
      } catch {
        // Kept by another version: the genesis, held against the same id, says it all again.
      }
    }
    const { genesis } = await this.#api.genesis(signal);
    // What the mesh says of itself is pinned where nothing else is known, so that both answers are at least of one chain.
    const light = refusing(() => Chain.begin(genesis, pinned ?? claimed));
    await this.#keep(light, trust);
    return { light, trust };
  }

  /** Takes over validators until this block's epoch is reached. */
  async #reach(light: Chain, block: string, signal: AbortSignal, watch = new Stopwatch()): Promise<void> {
    for (let from = refusing(() => light.needs(block)); from !== undefined; ) {
      for (const served of await this.#api.handOvers(from, signal)) {
        watch.run(() => light.handOver(JSON.stringify(served)));
        // Not further than asked: then the block's own epoch would be over.
        if (light.needs(block) === undefined) return;
      }
      if (light.epoch <= from) {
        throw new LightError("no-hand-over", `The mesh serves no hand-over of epoch ${from}, so its newer blocks cannot be checked. Try again in a moment.`);
      }
      from = light.needs(block);
    }
  }

  async #shown(light: Chain, block: Block, signal: AbortSignal): Promise<FinalBlock> {
    const signers: string[] = [];
    for (const { node, name } of block.signers) signers.push(name ?? (await this.#name(light, node, signal)));
    const { height, digest, epoch, timestampMs, validators } = block;
    return { height, digest, epoch, timestampMs, signers: signers.sort(inOrder), validators };
  }

  /** A name that the genesis does not have. Without one the key does. */
  async #name(light: Chain, node: string, signal: AbortSignal): Promise<string> {
    try {
      const served = JSON.stringify(await this.#api.state(`node.${node}`, signal));
      await this.#reach(light, served, signal);
      return light.checkName(node, served) ?? node;
    } catch {
      return node;
    }
  }

  async #keep(light: Chain, trust: LedgerStatus["trust"]): Promise<void> {
    const { base } = this.#api;
    const { chain, height } = light;
    const before = await keptChain(base);
    // Another tab has seen more, and that is not to be forgotten.
    if (before?.chain === chain && (before.height ?? 0) > height) return;
    await keepChain({ base, chain, height, bytes: light.bytes() as Uint8Array<ArrayBuffer>, trust, savedMs: Date.now() });
  }
}

/** The claim of a round's reward; `sign` makes its transaction for a chain, with a number of the account. */
export interface SignedClaim {
  round: number;
  sign: (chain: string, nonce: number) => Uint8Array<ArrayBuffer>;
}

/** Sums what checking itself takes, without the network. */
class Stopwatch {
  ms = 0;

  run<T>(check: () => T): T {
    const started = performance.now();
    try {
      return refusing(check);
    } finally {
      this.ms += performance.now() - started;
    }
  }
}

function refusing<T>(check: () => T): T {
  try {
    return check();
  } catch (thrown) {
    throw asLightError(thrown);
  }
}

/** Whether what was served is of an epoch that is over. */
function isPast(error: unknown): error is LightError {
  return error instanceof LightError && error.code === "past-epoch";
}

function cameSecond(error: unknown): boolean {
  return error instanceof LightError && CAME_SECOND.has(error.code);
}

function claimLate(rounds: number): LightError {
  const what = rounds === 1 ? "The reward of 1 round was" : `The rewards of ${rounds} rounds were`;
  return new LightError(
    "not-final",
    `${what} claimed, and that is in no final block after ${CLAIM_MS / 1000} s. The ledger goes on when three of four validation nodes work. Try again in a moment; no round is paid twice.`,
  );
}

/** What the state shows, or nothing if it does not show it yet. */
async function unlessNotYet<T>(stated: () => Promise<T>): Promise<T | undefined> {
  try {
    return await stated();
  } catch (error) {
    if (error instanceof LightError && NOT_YET.has(error.code)) return undefined;
    throw error;
  }
}

function olderState(height: number, seen: number): LightError {
  return new LightError(
    "older-state",
    `The mesh answers with the ledger's state after block ${height}, which is older than block ${seen}, verified on this device before: what has changed since is not in it. Try again in a moment; if it stays so, the mesh keeps newer blocks from this device.`,
  );
}

function otherChain(pinned: string, claimed: string, given: boolean): LightError {
  const what = given
    ? "Check the chain id that you were given, and the mesh's address."
    : "Ask its operators whether they set it up anew. If they did, forget the old ledger here; if not, somebody else answers at this address: leave.";
  return new LightError("other-chain", `This mesh is on ledger ${claimed} now, but it is known by ledger ${pinned}. Nothing was sent. ${what}`);
}

/** `validation-2` before `validation-10`. */
function inOrder(a: string, b: string): number {
  return a.localeCompare(b, "en", { numeric: true });
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const over = (): void => {
      clearTimeout(timer);
      const late = (signal.reason as { name?: unknown } | undefined)?.name === "TimeoutError";
      reject(late
        ? new LightError("mesh-unreachable", "The mesh takes too long to answer. Try again in a moment.")
        : new LightError("aborted", "Stopped before anything was sent."));
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", over);
      resolve();
    }, ms);
    if (signal.aborted) over();
    else signal.addEventListener("abort", over, { once: true });
  });
}


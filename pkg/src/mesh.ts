import { Api } from "./api.js";
import { audit } from "./audit.js";
import { claim, senders, type Claim } from "./claim.js";
import { compute } from "./computer.js";
import { deliver } from "./delivery.js";
import { LightError } from "./error.js";
import { Ledger } from "./ledger.js";
import { pathsTo, reaches, webrtcAddress } from "./paths.js";
import { owed, type Owed } from "./rewards.js";
import { score } from "./scoring.js";
import {
  forget, keep, keepReceipt, keptReport, keptReports, keyFor, remember, remembered, type KeptReport,
} from "./store.js";
import type {
  Admission, AuditOptions, Audited, Balance, Checked, ClaimOptions, Claimed, Contribution, ContributeOptions, Enrolled, Enrolment,
  EnrolOptions, FollowOptions, Given, JoinOptions, Kept, LedgerRound, LedgerStatus, LightEvent, Mesh, MeshView, NodeView, Outcome, Receipt,
  Reward, Rewards, Rows, ScoreOptions, Scores, SignedText, Spent, TaskView,
} from "./types.js";
import { loadLight } from "./wasm.js";

const TASK_ID = /^[A-Za-z0-9_-]{43}$/;
/** How long a node's new address is asked for before the old one is tried again. */
const LOCATE_MS = 2_000;
/** How many leaders are tried before a report is made for one that is away. */
const MOST_LEADERS = 3;

/** A mesh over its HTTP API. */
export class HttpMesh implements Mesh {
  readonly #api: Api;
  readonly #ledger: Ledger;
  #view: MeshView;
  readonly #closed = new AbortController();

  private constructor(api: Api, ledger: Ledger, view: MeshView) {
    this.#api = api;
    this.#ledger = ledger;
    this.#view = view;
  }

  static async join(base?: string, { chain }: JoinOptions = {}): Promise<Mesh> {
    const api = Api.at(base);
    const ledger = new Ledger(api, chain);
    const view = await api.mesh();
    // Who names the ledger wants no other mesh. What was only met before is held to when it matters.
    if (chain !== undefined) await ledger.expects(view.ledger?.chain);
    return new HttpMesh(api, ledger, view);
  }

  tasks(): Promise<TaskView[]> {
    return this.#api.tasks();
  }

  task(nameOrId: string): Promise<TaskView> {
    return this.#api.task(nameOrId);
  }

  async check(nameOrId: string, rows: Rows): Promise<Checked> {
    const view = await this.task(nameOrId);
    return compute({ kind: "check", manifest: view.signed, task: expected(nameOrId, view), rows }, { signal: this.#closed.signal });
  }

  async contribute(options: ContributeOptions): Promise<Contribution> {
    const seed = seedOf(options.seed);
    const signal = this.#signal(options.signal);
    const onEvent = guarded(options.onEvent);
    const view = await this.task(options.task);
    const round = openRound(view);
    const task = expected(options.task, view);
    const { rows } = options;
    const key = (await this.#credential(view, task))?.seed;
    await this.#refresh();
    let opening: { chain: Uint8Array; served: string } | null = null;
    if (await this.#ledger.expects(this.#claimed)) {
      const { chain, served, block, ms } = await this.#ledger.opening(this.#claimed, task, round.round, round.signed, signal);
      const { height, signers, validators } = block;
      onEvent({ kind: "step", step: "final", ms, round: round.round, height, signers, validators });
      opening = { chain, served };
    }
    const model = await this.#api.model(round.baseModel, signal);
    const report = key === undefined ? await this.#draw(view, task, round.signed, onEvent, signal) : undefined;
    const sealed = await compute(
      { kind: "prepare", manifest: view.signed, task, round: round.signed, opening, model, rows, seed, report, key },
      { onEvent, signal },
    );
    const kept: KeptReport = {
      report: sealed.report,
      task,
      taskName: view.name,
      round: sealed.round,
      deadlineMs: sealed.deadlineMs,
      savedMs: Date.now(),
      base: this.#api.base,
      leader: sealed.leader,
      leaderName: sealed.leaderName,
      sealed: sealed.bytes,
      mediaType: sealed.mediaType,
    };
    // Claimed before it is visible: a resume that starts meanwhile must not send it too.
    const claimed = await this.#claim(kept.report);
    await keep(kept);
    return this.#send(kept, claimed, onEvent, signal);
  }

  async score(options: ScoreOptions): Promise<Scores> {
    const { rows, node, onScore } = options;
    const view = await this.task(options.task);
    const task = expected(options.task, view);
    await this.#refresh();
    const wanted = this.#view.nodes.filter((known) => known.role === "full" && (node === undefined ? known.reachable : known.name === node));
    if (node !== undefined && wanted.length === 0) throw new LightError("unknown-node", `The mesh lists no full node ${node}.`);
    // Not all at the first one.
    const first = Math.floor(Math.random() * wanted.length);
    const nodes = [...wanted.slice(first), ...wanted.slice(0, first)];
    const signal = this.#signal(options.signal);
    return score(await loadLight(), { task, view, rows, nodes, onScore: guarded(onScore), signal });
  }

  async enrolment(nameOrId: string): Promise<Enrolment> {
    const view = await this.task(nameOrId);
    const credential = await this.#credential(view, expected(nameOrId, view));
    if (credential === undefined) return { admission: null, key: null, kept: false };
    const { admission, seed, kept } = credential;
    return { admission, key: (await loadLight()).publicKey(seed), kept };
  }

  async enrolled(nameOrId: string): Promise<Enrolled> {
    const view = await this.task(nameOrId);
    const id = expected(nameOrId, view);
    const { seed, kept } = await this.#known(view, id);
    const key = (await loadLight()).publicKey(seed);
    await this.#refresh();
    return { kept, ...(await this.#ledger.light(this.#claimed, id, key, this.#closed.signal)) };
  }

  async enrol({ task: nameOrId, invite, signal: own }: EnrolOptions): Promise<Enrolled> {
    const view = await this.task(nameOrId);
    const id = expected(nameOrId, view);
    const { seed, kept } = await this.#known(view, id);
    const light = await loadLight();
    const task = new light.Task(JSON.stringify(view.signed), id);
    try {
      const sign = (chain: string, nonce: number): Uint8Array<ArrayBuffer> =>
        task.enrol(seed, chain, nonce, invite) as Uint8Array<ArrayBuffer>;
      await this.#refresh();
      return { kept, ...(await this.#ledger.enrol(this.#claimed, id, light.publicKey(seed), sign, this.#signal(own))) };
    } finally {
      task.free();
    }
  }

  async rewards(nameOrId: string): Promise<Rewards> {
    const { id, key } = await this.#own(nameOrId);
    const found = await this.#owed(id, key);
    return { ...(await this.balance(key)), claimable: found.map(shown) };
  }

  async claim({ task, signal: own }: ClaimOptions): Promise<Claimed> {
    const { id, key, seed } = await this.#own(task);
    const found = await this.#owed(id, key);
    const { balance: before } = await this.balance(key);
    const light = await loadLight();
    const wanted = found.map(({ round, receipt: { report, served } }) => ({
      round,
      sign: (chain: string, nonce: number) =>
        light.claimReward(seed, chain, nonce, unBase64(served.receipt), report) as Uint8Array<ArrayBuffer>,
    }));
    await this.#ledger.claim(this.#claimed, id, key, wanted, this.#signal(own));
    return { ...(await this.balance(key)), paid: found.map(shown), before };
  }

  async given(): Promise<Given[]> {
    const all = await remembered(this.#api.base);
    return all.map(({ report, task, taskName, round, sentMs, receipt = null }) => ({ report, task, taskName, round, sentMs, receipt }));
  }

  async ledger(): Promise<LedgerStatus> {
    await this.#refresh();
    return this.#ledger.status(this.#claimed, this.#closed.signal);
  }

  async receipt({ task, round, report }: Pick<Contribution, "task" | "round" | "report">): Promise<Receipt> {
    const all = await remembered(this.#api.base);
    const kept = all.find((given) => given.report === report && given.task === task && given.round === round)?.receipt;
    if (kept) return kept;
    // A mesh that says by now that it keeps no ledger is refused, and not waited for.
    await this.#refresh();
    const receipt = await this.#ledger.receipt(this.#claimed, task, round, report, this.#closed.signal);
    await keepReceipt(this.#api.base, receipt);
    return receipt;
  }

  balance(key: string): Promise<Balance> {
    return this.#ledger.balance(this.#claimed, key, this.#closed.signal);
  }

  async ledgerRound(nameOrId: string, round: number): Promise<LedgerRound | null> {
    const task = TASK_ID.test(nameOrId) ? nameOrId : (await this.task(nameOrId)).id;
    return this.#ledger.round(this.#claimed, task, round, this.#closed.signal);
  }

  forgetLedger(): Promise<void> {
    return this.#ledger.forget();
  }

  async spent(nameOrId: string): Promise<Spent> {
    const view = await this.task(nameOrId);
    const id = expected(nameOrId, view);
    const all = await remembered(this.#api.base);
    const perRound = new Map<number, number>();
    for (const { task, round } of all) if (task === id) perRound.set(round, (perRound.get(round) ?? 0) + 1);
    const rounds = perRound.size;
    const light = await loadLight();
    const task = new light.Task(JSON.stringify(view.signed), id);
    try {
      return { rounds, mostARound: Math.max(0, ...perRound.values()), epsilon: task.spent(rounds) ?? null };
    } finally {
      task.free();
    }
  }

  async audit({ task: nameOrId, round, blocks, signal: own }: AuditOptions): Promise<Audited> {
    const view = await this.task(nameOrId);
    const task = expected(nameOrId, view);
    const light = await loadLight();
    return audit(light, this.#api, { task, view, round, blocks, signal: this.#signal(own) });
  }

  async kept(): Promise<Kept[]> {
    const reports = await keptReports(this.#api.base);
    const sender = await senders();
    return reports.map(({ report, task, taskName, round, sealed, deadlineMs, savedMs }) => ({
      report, task, taskName, round, bytes: sealed.length, deadlineMs, savedMs, sending: sender(report),
    }));
  }

  async resume(report: string, options: FollowOptions = {}): Promise<Contribution> {
    const claimed = await this.#claim(report);
    const kept = await keptReport(report);
    if (kept === undefined || kept.base !== this.#api.base) {
      await claimed.release();
      throw new LightError("unknown-report", `No report ${report} is kept on this device for this mesh.`);
    }
    return this.#send(kept, claimed, guarded(options.onEvent), this.#signal(options.signal));
  }

  async discard(report: string): Promise<void> {
    const claimed = await this.#claim(report);
    await forget(report);
    await claimed.release();
  }

  async outcome({ task, report, node }: Pick<Contribution, "task" | "round" | "report" | "node">): Promise<Outcome> {
    const found = this.#view.nodes.find((known) => known.name === node);
    if (found === undefined) throw new LightError("unknown-node", `The mesh lists no node ${node}.`);
    return this.#api.outcome(found, task, report);
  }

  close(): void {
    this.#closed.abort();
  }

  async #claim(report: string): Promise<Claim> {
    const claimed = await claim(report);
    if (claimed !== undefined) return claimed;
    const sender = await senders();
    const where = sender(report) === "elsewhere" ? " in another tab of this browser" : "";
    throw new LightError("already-sending", `Report ${report} is being sent already${where}.`);
  }

  async #send(
    kept: KeptReport, claimed: Claim, onEvent: (event: LightEvent) => void, signal: AbortSignal,
  ): Promise<Contribution> {
    const { report, task, taskName, round, deadlineMs, leader, leaderName: node, sealed, mediaType } = kept;
    try {
      const light = await loadLight();
      await this.#refresh();
      let tries = 0;
      const locate = async (): Promise<{ node: NodeView; http: string }> => {
        if (tries++ > 1) await this.#refresh();
        const found = this.#leader(leader, node);
        return { node: found, http: this.#api.http(found) };
      };
      const webrtc = webrtcAddress(this.#leader(leader, node)) !== undefined;
      const parcel = { node, webrtc, bytes: sealed.length, round, deadlineMs };
      const paths = pathsTo(light, locate, { task, report, bytes: sealed, mediaType });
      const delivered = await deliver(light, parcel, paths, { onEvent, signal });
      await remember({ base: this.#api.base, report, task, taskName, round, sentMs: Date.now() });
      await forget(report);
      return { task, taskName, round, report, node, ...delivered, bytes: sealed.length };
    } catch (error) {
      // Refused for good or out of time; what can still be sent stays.
      if (error instanceof LightError && !STAYS_KEPT.has(error.code)) await forget(report);
      throw error;
    } finally {
      await claimed.release();
    }
  }

  /** The ledger that the mesh says it keeps. */
  get #claimed(): string | undefined {
    return this.#view.ledger?.chain;
  }

  /** This device's key for a task that counts enrolled light nodes only; none for a task of anybody. */
  async #credential(
    view: TaskView, id: string,
  ): Promise<{ admission: Admission; seed: Uint8Array<ArrayBuffer>; kept: boolean } | undefined> {
    const light = await loadLight();
    const task = new light.Task(JSON.stringify(view.signed), id);
    try {
      const admission = task.admission as Admission | undefined;
      if (admission === undefined) return undefined;
      const make = (): Uint8Array<ArrayBuffer> => light.newSeed() as Uint8Array<ArrayBuffer>;
      return { admission, ...(await keyFor(this.#api.base, id, make)) };
    } finally {
      task.free();
    }
  }

  /**
   * A report's id. Its leader is one that this device reaches, if it reaches one: on the mesh's word on who is there, the aggregation
   * node could have all reports go to nodes of its choice.
   */
  async #draw(
    view: TaskView, id: string, round: SignedText, onEvent: (event: LightEvent) => void, signal: AbortSignal,
  ): Promise<string> {
    const light = await loadLight();
    const task = new light.Task(JSON.stringify(view.signed), id);
    const failed: string[] = [];
    try {
      for (;;) {
        const [report = "", leader = ""] = task.draw(JSON.stringify(round), Date.now(), failed);
        if (failed.includes(leader)) return report;
        const node = this.#leader(leader, "a full node");
        if (await reaches(light, node, this.#api.http(node), signal)) return report;
        failed.push(leader);
        onEvent({ kind: "away", node: node.name });
        if (failed.length === MOST_LEADERS) return report;
      }
    } finally {
      task.free();
    }
  }

  /** The same of a task that has one. */
  async #known(view: TaskView, id: string): Promise<{ admission: Admission; seed: Uint8Array<ArrayBuffer>; kept: boolean }> {
    const credential = await this.#credential(view, id);
    if (credential !== undefined) return credential;
    throw new LightError("no-enrolment", `Nobody enrols for task ${view.name}: anybody contributes to it.`);
  }

  /** This device's key for a task that has one. */
  async #own(nameOrId: string): Promise<{ id: string; key: string; seed: Uint8Array<ArrayBuffer> }> {
    const view = await this.task(nameOrId);
    const id = expected(nameOrId, view);
    const { seed } = await this.#known(view, id);
    await this.#refresh();
    return { id, seed, key: (await loadLight()).publicKey(seed) };
  }

  /** What the ledger owes this device's key for what was given to a task. */
  async #owed(id: string, key: string): Promise<Owed[]> {
    const { state, claimed } = await this.#ledger.light(this.#claimed, id, key, this.#closed.signal);
    // Only who takes part is paid.
    if (state !== "active") return [];
    const all = await this.given();
    const ours = all.filter(({ task }) => task === id);
    return owed(ours, claimed, { round: (round) => this.ledgerRound(id, round), receipt: (given) => this.receipt(given) });
  }

  #leader(id: string, name: string): NodeView {
    const found = this.#view.nodes.find((node) => node.id === id);
    if (found === undefined) {
      throw new LightError("unknown-node", `The mesh does not list ${name}, the leader of its committee; the report is kept.`);
    }
    return found;
  }

  /** A node that came back may have new addresses. */
  async #refresh(): Promise<void> {
    try {
      this.#view = await this.#api.mesh(AbortSignal.timeout(LOCATE_MS));
    } catch {
      // The addresses that are known are tried then.
    }
  }

  #signal(own: AbortSignal | undefined): AbortSignal {
    return own === undefined ? this.#closed.signal : AbortSignal.any([own, this.#closed.signal]);
  }
}

const STAYS_KEPT = new Set(["aborted", "no-wasm", "unknown-node", "crashed", "unexpected"]);

/** An id that the caller gave is what the manifest is held against; a name is the mesh's word. */
function expected(given: string, view: TaskView): string {
  return TASK_ID.test(given) ? given : view.id;
}

function shown({ round, points }: Owed): Reward {
  return { round, points };
}

/** The bytes of a base64url text. */
function unBase64(text: string): Uint8Array {
  return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
}

function openRound(view: TaskView): NonNullable<TaskView["round"]> {
  if (view.paused) {
    throw new LightError("paused", `Task ${view.name} is paused. Nothing is lost; try again later.`);
  }
  if (view.round === null) {
    const done = view.roundsDone >= view.rounds;
    throw done
      ? new LightError("complete", `All ${view.rounds} rounds of task ${view.name} are done.`)
      : new LightError("no-round", `No round of task ${view.name} is open yet; try again in a moment.`);
  }
  if (!view.round.acceptsReports) {
    throw new LightError("round-closed", `Round ${view.round.round} takes no more reports (${view.round.text}). Take part in the next one.`);
  }
  return view.round;
}

function seedOf(given: number | undefined): bigint {
  if (given === undefined) {
    const [seed = 0n] = crypto.getRandomValues(new BigUint64Array(1));
    return seed;
  }
  if (!Number.isSafeInteger(given) || given < 0) {
    throw new LightError("bad-seed", `The seed is ${given}; it must be a whole number from 0 on.`);
  }
  return BigInt(given);
}

/** A listener that throws must not stop what it listens to. */
function guarded<T>(listener: ((event: T) => void) | undefined): (event: T) => void {
  return (event) => {
    try {
      listener?.(event);
    } catch (error) {
      console.error(error);
    }
  };
}

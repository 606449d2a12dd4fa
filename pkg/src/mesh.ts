import { Api } from "./api.js";
import { claim, senders, type Claim } from "./claim.js";
import { compute } from "./computer.js";
import { deliver } from "./delivery.js";
import { LightError } from "./error.js";
import { pathsTo, webrtcAddress } from "./paths.js";
import { score } from "./scoring.js";
import { forget, keep, keptReport, keptReports, type KeptReport } from "./store.js";
import type {
  Checked, Contribution, ContributeOptions, FollowOptions, Kept, LightEvent, Mesh, MeshView, NodeView, Outcome, Rows,
  ScoreOptions, Scores, TaskView,
} from "./types.js";
import { loadLight } from "./wasm.js";

const TASK_ID = /^[A-Za-z0-9_-]{43}$/;
/** How long a node's new address is asked for before the old one is tried again. */
const LOCATE_MS = 2_000;

/** A mesh over its HTTP API. */
export class HttpMesh implements Mesh {
  readonly #api: Api;
  #view: MeshView;
  readonly #closed = new AbortController();

  private constructor(api: Api, view: MeshView) {
    this.#api = api;
    this.#view = view;
  }

  static async join(base?: string): Promise<Mesh> {
    const api = Api.at(base);
    return new HttpMesh(api, await api.mesh());
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
    const model = await this.#api.model(round.baseModel, signal);
    const task = expected(options.task, view);
    const { rows } = options;
    await this.#refresh();
    const reachable = this.#view.nodes.filter((node) => node.reachable).map((node) => node.id);
    const sealed = await compute(
      { kind: "prepare", manifest: view.signed, task, round: round.signed, model, rows, seed, reachable },
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

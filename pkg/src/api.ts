import { LightError } from "./error.js";
import type {
  MeshView, NodeView, Outcome, ServedGenesis, ServedHeader, ServedOpening, ServedReceipt, ServedState, SignedText, TaskView,
} from "./types.js";

/** The mesh's HTTP API, at one base address that ends with a slash. */
export class Api {
  constructor(readonly base: string) {}

  /** The address of a mesh, as given or the page's own. */
  static at(base: string | undefined): Api {
    const given = base ?? (globalThis.location as Location | undefined)?.origin;
    if (given === undefined) {
      throw new LightError("no-mesh", "There is no page to take the mesh's address from; call joinMesh with its address.");
    }
    let url: URL;
    try {
      url = new URL(given);
    } catch {
      throw new LightError("no-mesh", `"${given}" is not the address of a mesh; it looks like https://mesh.example.`);
    }
    url.search = url.hash = "";
    return new Api(url.href.endsWith("/") ? url.href : `${url.href}/`);
  }

  mesh(signal?: AbortSignal): Promise<MeshView> {
    return this.#json<MeshView>("api/v1/mesh", signal);
  }

  tasks(): Promise<TaskView[]> {
    return this.#json<TaskView[]>("api/v1/tasks");
  }

  task(nameOrId: string): Promise<TaskView> {
    return this.#json<TaskView>(`api/v1/tasks/${encodeURIComponent(nameOrId)}`);
  }

  async model(digest: string, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
    const response = await this.#get(`api/v1/models/${encodeURIComponent(digest)}`, signal);
    return new Uint8Array(await response.arrayBuffer());
  }

  record(task: string, round: number, signal?: AbortSignal): Promise<SignedText> {
    return this.#json<SignedText>(`${ofRound(task, round)}/record`, signal);
  }

  async block(task: string, round: number, block: number, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
    const response = await this.#get(`${ofRound(task, round)}/blocks/${block}`, signal);
    return new Uint8Array(await response.arrayBuffer());
  }

  genesis(signal: AbortSignal): Promise<ServedGenesis> {
    return this.#json<ServedGenesis>("api/v1/ledger/genesis", signal);
  }

  head(signal: AbortSignal): Promise<ServedHeader> {
    return this.#json<ServedHeader>("api/v1/ledger/head", signal);
  }

  handOvers(from: number, signal: AbortSignal): Promise<ServedHeader[]> {
    return this.#json<ServedHeader[]>(`api/v1/ledger/handovers?from=${from}`, signal);
  }

  state(slot: string, signal: AbortSignal): Promise<ServedState> {
    return this.#json<ServedState>(`api/v1/ledger/state/${encodeURIComponent(slot)}`, signal);
  }

  /** Hands a signed transaction to the validators. */
  async submit(tx: Uint8Array<ArrayBuffer>, signal: AbortSignal): Promise<void> {
    await this.#get("api/v1/ledger/txs", signal, false, { method: "POST", body: tx });
  }

  /** Nothing until it is final. */
  opening(task: string, round: number, signal: AbortSignal): Promise<ServedOpening | undefined> {
    return this.#found<ServedOpening>(`api/v1/ledger/opening/${encodeURIComponent(task)}/${round}`, signal);
  }

  /** Nothing until the report is counted. */
  receipt(task: string, round: number, report: string, signal: AbortSignal): Promise<ServedReceipt | undefined> {
    return this.#found<ServedReceipt>(`api/v1/ledger/receipt/${encodeURIComponent(task)}/${round}/${encodeURIComponent(report)}`, signal);
  }

  outcome(node: NodeView, task: string, report: string): Promise<Outcome> {
    return this.#json<Outcome>(`${this.http(node)}/tasks/${encodeURIComponent(task)}/reports/${encodeURIComponent(report)}`);
  }

  /** A node's HTTP address, without a slash at its end. */
  http(node: NodeView): string {
    return new URL(node.http, this.base).href.replace(/\/+$/, "");
  }

  async #json<T>(address: string, signal?: AbortSignal): Promise<T> {
    return this.#read<T>(await this.#get(address, signal));
  }

  async #found<T>(address: string, signal: AbortSignal): Promise<T | undefined> {
    const response = await this.#get(address, signal, true);
    return response.status === 404 ? undefined : this.#read<T>(response);
  }

  async #read<T>(response: Response): Promise<T> {
    try {
      return (await response.json()) as T;
    } catch {
      throw new LightError("bad-answer", `${response.url} did not answer with JSON; check that it is the address of a mesh.`);
    }
  }

  async #get(address: string, signal?: AbortSignal, orNothing = false, how: RequestInit = {}): Promise<Response> {
    const url = new URL(address, this.base);
    let response: Response;
    try {
      response = await fetch(url, signal === undefined ? how : { ...how, signal });
    } catch {
      const late = (signal?.reason as { name?: unknown } | undefined)?.name === "TimeoutError";
      if (signal?.aborted && !late) throw new LightError("aborted", "Stopped before anything was sent.");
      throw new LightError("mesh-unreachable", `${url.origin} cannot be reached. Check the connection and try again.`);
    }
    if (response.ok || (orNothing && response.status === 404)) return response;
    const refusal = (await response.json().catch(() => ({}))) as { code?: unknown; message?: unknown; detail?: unknown };
    const text = refusal.message ?? refusal.detail;
    throw new LightError(
      typeof refusal.code === "string" ? refusal.code : "bad-answer",
      typeof text === "string" ? text : `${url.href} answered with HTTP status ${response.status}.`,
    );
  }
}

function ofRound(task: string, round: number): string {
  return `api/v1/tasks/${encodeURIComponent(task)}/rounds/${round}`;
}

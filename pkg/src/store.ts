import type { Given, Kept, LedgerStatus, Receipt } from "./types.js";

/** A sealed report with all that is needed to send it after a refresh. */
export interface KeptReport extends Omit<Kept, "bytes" | "sending"> {
  /** The mesh it is for. */
  base: string;
  /** Id of the leader. */
  leader: string;
  leaderName: string;
  sealed: Uint8Array<ArrayBuffer>;
  /** Of a report that was kept before there were reports of three shares: none. */
  mediaType?: string;
}

const DATABASE = "brainstems-light";
const REPORTS = "reports";
const GIVEN = "given";
const CHAINS = "chains";
const KEYS = "keys";
/** Every store, and what names an entry in it. A new one raises the version. */
const STORES: Record<string, string> = { [REPORTS]: "report", [GIVEN]: "report", [CHAINS]: "base", [KEYS]: "id" };
const VERSION = 3;

/** Reports of this page alone: where there is no IndexedDB, or it refuses to store. */
const memory = new Map<string, KeptReport>();

/** A contribution that was delivered, and the mesh that has it. */
export type GivenReport = Given & { base: string };

/** The same for what was delivered. */
const given = new Map<string, GivenReport>();

/** Remembers what was delivered: what this device has spent of a task's privacy budget follows from it. */
export async function remember(report: GivenReport): Promise<void> {
  given.set(report.report, report);
  await inStore("readwrite", (store) => store.put(report), GIVEN);
}

/** What was delivered to a mesh, oldest first. */
export async function remembered(base: string): Promise<GivenReport[]> {
  const stored = (await inStore<GivenReport[]>("readonly", (store) => store.getAll(), GIVEN)) ?? [];
  const all = new Map([...stored, ...given.values()].map((one) => [one.report, one]));
  return [...all.values()].filter((one) => one.base === base).sort((a, b) => a.sentMs - b.sentMs);
}

/** Keeps a verified receipt with the contribution that it is for. */
export async function keepReceipt(base: string, receipt: Receipt): Promise<void> {
  const all = await remembered(base);
  const found = all.find(({ report, task }) => report === receipt.report && task === receipt.task);
  // Of a contribution that was made elsewhere nothing is kept: what this device has spent would seem more than it is.
  if (found !== undefined) await remember({ ...found, receipt });
}

/** A ledger that is followed: what is believed of it, and on whose word. */
export interface KeptChain {
  /** The mesh whose it is. */
  base: string;
  chain: string;
  /** Of the newest final block that was seen; not there if an earlier version kept it. */
  height?: number;
  bytes: Uint8Array<ArrayBuffer>;
  trust: LedgerStatus["trust"];
  savedMs: number;
}

/** The same, of this page alone. */
const chains = new Map<string, KeptChain>();

export async function keepChain(kept: KeptChain): Promise<void> {
  if ((await inStore("readwrite", (store) => store.put(kept), CHAINS)) === undefined) chains.set(kept.base, kept);
}

export async function keptChain(base: string): Promise<KeptChain | undefined> {
  return chains.get(base) ?? (await inStore<KeptChain | undefined>("readonly", (store) => store.get(base), CHAINS));
}

export async function forgetChain(base: string): Promise<void> {
  chains.delete(base);
  await inStore("readwrite", (store) => store.delete(base), CHAINS);
}

export async function keep(kept: KeptReport): Promise<void> {
  // Only where it is not stored: what another tab has sent or dropped meanwhile must not come back from here.
  if ((await inStore("readwrite", (store) => store.put(kept))) === undefined) memory.set(kept.report, kept);
}

export async function forget(report: string): Promise<void> {
  memory.delete(report);
  await inStore("readwrite", (store) => store.delete(report));
}

export async function keptReport(report: string): Promise<KeptReport | undefined> {
  return memory.get(report) ?? (await inStore<KeptReport | undefined>("readonly", (store) => store.get(report)));
}

/** The kept reports of a mesh, oldest first. */
export async function keptReports(base: string): Promise<KeptReport[]> {
  const stored = (await inStore<KeptReport[]>("readonly", (store) => store.getAll())) ?? [];
  const all = new Map([...stored, ...memory.values()].map((kept) => [kept.report, kept]));
  return [...all.values()].filter((kept) => kept.base === base).sort((a, b) => a.savedMs - b.savedMs);
}

/** The seed of this device's key for a task of a mesh. */
export interface KeptKey {
  /** Mesh and task. */
  id: string;
  seed: Uint8Array<ArrayBuffer>;
}

/** Keys of this page alone, as above. */
const keys = new Map<string, KeptKey>();

/**
 * This device's key for a task, made at the first call: one for each mesh and task, so that nobody can tell from two tasks
 * that it is the same device. `kept` says whether it outlives the page.
 */
export async function keyFor(
  base: string, task: string, make: () => Uint8Array<ArrayBuffer>,
): Promise<{ seed: Uint8Array<ArrayBuffer>; kept: boolean }> {
  const id = `${base} ${task}`;
  const stored = (): Promise<KeptKey | undefined> => inStore("readonly", (store) => store.get(id), KEYS);
  let held = await stored();
  if (held === undefined) {
    const own = keys.get(id) ?? { id, seed: make() };
    // Not "put": another tab may have been quicker, and its key may be enrolled already.
    await inStore("readwrite", (store) => store.add(own), KEYS);
    held = await stored();
    if (held === undefined) {
      // A second call at the same time has made another one.
      if (!keys.has(id)) keys.set(id, own);
      return { seed: (keys.get(id) ?? own).seed, kept: false };
    }
  }
  return { seed: held.seed, kept: true };
}

let opened: Promise<IDBDatabase | undefined> | undefined;

function database(): Promise<IDBDatabase | undefined> {
  opened ??= new Promise((resolve) => {
    if (typeof indexedDB === "undefined") return resolve(undefined);
    try {
      const request = indexedDB.open(DATABASE, VERSION);
      request.onupgradeneeded = () => {
        const known = request.result.objectStoreNames;
        for (const [name, keyPath] of Object.entries(STORES)) {
          if (!known.contains(name)) request.result.createObjectStore(name, { keyPath });
        }
      };
      request.onsuccess = () => {
        // Another tab with a newer version must not wait for this one.
        request.result.onversionchange = () => {
          request.result.close();
          opened = undefined;
        };
        resolve(request.result);
      };
      request.onerror = () => resolve(undefined);
    } catch {
      // Some private windows throw at once.
      resolve(undefined);
    }
  });
  return opened;
}

async function inStore<T>(
  mode: IDBTransactionMode, act: (store: IDBObjectStore) => IDBRequest, name = REPORTS,
): Promise<T | undefined> {
  const db = await database();
  if (db === undefined) return undefined;
  return new Promise((resolve) => {
    try {
      const transaction = db.transaction(name, mode);
      const request = act(transaction.objectStore(name));
      transaction.oncomplete = () => resolve(request.result as T);
      transaction.onerror = () => resolve(undefined);
      transaction.onabort = () => resolve(undefined);
    } catch {
      resolve(undefined);
    }
  });
}

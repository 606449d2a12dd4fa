import type { Kept } from "./types.js";

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

/** Reports of this page alone: where there is no IndexedDB, or it refuses to store. */
const memory = new Map<string, KeptReport>();

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

let opened: Promise<IDBDatabase | undefined> | undefined;

function database(): Promise<IDBDatabase | undefined> {
  opened ??= new Promise((resolve) => {
    if (typeof indexedDB === "undefined") return resolve(undefined);
    try {
      const request = indexedDB.open(DATABASE, 1);
      request.onupgradeneeded = () => request.result.createObjectStore(REPORTS, { keyPath: "report" });
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

async function inStore<T>(mode: IDBTransactionMode, act: (store: IDBObjectStore) => IDBRequest): Promise<T | undefined> {
  const db = await database();
  if (db === undefined) return undefined;
  return new Promise((resolve) => {
    try {
      const transaction = db.transaction(REPORTS, mode);
      const request = act(transaction.objectStore(REPORTS));
      transaction.oncomplete = () => resolve(request.result as T);
      transaction.onerror = () => resolve(undefined);
      transaction.onabort = () => resolve(undefined);
    } catch {
      resolve(undefined);
    }
  });
}

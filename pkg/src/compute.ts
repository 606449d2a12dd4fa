import { LightError } from "./error.js";
import type { Checked, DataProblem, LightEvent, Rows, SignedText } from "./types.js";
import type { Contribution, Task } from "../wasm/light.js";
import type { Light } from "./wasm.js";

/** Rows to read against a task's schema. */
export interface CheckJob {
  kind: "check";
  manifest: SignedText;
  /** The id that the manifest must have. */
  task: string;
  rows: Rows;
}

/** A contribution to compute. */
export interface PrepareJob {
  kind: "prepare";
  manifest: SignedText;
  task: string;
  round: SignedText;
  /** What shows that the round's opening is final; null: the mesh keeps no ledger. */
  opening: { chain: Uint8Array; served: string } | null;
  model: Uint8Array;
  rows: Rows;
  seed: bigint;
  /** The report's id, if the task lets this device draw it. */
  report?: string | undefined;
  /** Seed of this device's key, where the task counts enrolled light nodes only. */
  key?: Uint8Array | undefined;
}

/** A sealed report and who takes it. */
export interface Prepared {
  report: string;
  round: number;
  deadlineMs: number;
  bytes: Uint8Array<ArrayBuffer>;
  /** Of the bytes: a report of three shares is none of DAP's. */
  mediaType: string;
  leader: string;
  leaderName: string;
}

/** Shares under an id, which decides who checks them. */
interface Split {
  bytes: number;
  report: string;
  leader: string;
  leaderName: string;
  helperNames: string[];
  mediaType: string;
}

export type Job = CheckJob | PrepareJob;

/** What each kind of job gives. */
export interface Results {
  check: Checked;
  prepare: Prepared;
}

/** Reads the rows, and says what is wrong with them. */
export async function check(light: Light, job: CheckJob): Promise<Checked> {
  const task = new light.Task(JSON.stringify(job.manifest), job.task);
  try {
    return task.check(await csvOf(light, job.rows)) as Checked;
  } catch (thrown) {
    if (thrown instanceof LightError && thrown.problems) return { rows: 0, errors: thrown.problems };
    throw thrown;
  } finally {
    task.free();
  }
}

/** Read, train, split, seal; each step is told with its time and size. */
export async function prepare(light: Light, job: PrepareJob, emit: (event: LightEvent) => void): Promise<Prepared> {
  const task = new light.Task(JSON.stringify(job.manifest), job.task);
  try {
    const work = begin(light, task, job);
    try {
      let since = performance.now();
      const lap = (): number => {
        const now = performance.now();
        const ms = now - since;
        since = now;
        return ms;
      };
      const csv = await csvOf(light, job.rows);
      const read = work.read(csv) as { rows: number; bytes: number };
      emit({ kind: "step", step: "read", ms: lap(), ...read });
      const trained = work.train(job.seed, (epoch: number, epochs: number, loss: number) => {
        emit({ kind: "training", epoch, epochs, loss });
      }) as { bytes: number; lossBefore: number; lossAfter: number; norm: number; clipped: boolean };
      emit({ kind: "step", step: "trained", ms: lap(), ...trained });
      const split = work.split(Date.now(), job.report) as Split;
      emit({ kind: "step", step: "split", ms: lap(), bytes: split.bytes });
      const bytes = work.seal() as Uint8Array<ArrayBuffer>;
      const { report, leader, leaderName, mediaType } = split;
      const { round, deadlineMs } = work;
      emit({ kind: "step", step: "sealed", ms: lap(), bytes: bytes.length, report, round });
      return { report, round, deadlineMs, bytes, mediaType, leader, leaderName };
    } finally {
      work.free();
    }
  } finally {
    task.free();
  }
}

/** Only here, next to the training, is the opening's finality what counts; the page's check is for people to see. */
function begin(light: Light, task: Task, job: PrepareJob): Contribution {
  const round = JSON.stringify(job.round);
  if (job.opening === null) return task.contribute(round, job.model, Date.now(), job.key);
  const chain = light.Chain.restore(job.opening.chain);
  try {
    return task.contributeFinal(chain, job.opening.served, round, job.model, Date.now(), job.key);
  } finally {
    chain.free();
  }
}

/** The rows as bytes. What is too long is refused before it is loaded. */
export async function csvOf(light: Light, rows: Rows): Promise<Uint8Array> {
  const most = light.maxDataBytes();
  const size = typeof rows === "string" ? rows.length : rows instanceof Uint8Array ? rows.byteLength : rows.size;
  if (size > most) throw unreadable(`the file has ${size} bytes; at most ${most} are read. Split it or leave rows out`);
  if (typeof rows === "string") return new TextEncoder().encode(rows);
  if (rows instanceof Uint8Array) return rows;
  try {
    return new Uint8Array(await rows.arrayBuffer());
  } catch (cause) {
    throw unreadable(`the file cannot be read (${String(cause)}); pick it again`);
  }
}

function unreadable(message: string): LightError {
  const problem: DataProblem = { row: null, line: null, column: null, message };
  return new LightError("bad-data", message, [problem]);
}

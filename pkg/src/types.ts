/** A text with the signature of the node that vouches for it. */
export interface SignedText {
  payload: string;
  signer: string;
  signature: string;
}

/** A model's quality on rows that nobody trained on. */
export interface Metrics {
  loss: number;
  accuracy: number | null;
  r2: number | null;
  rows: number;
}

/** Where a round stands. */
export type RoundPhase =
  | { phase: "opening" }
  | { phase: "waiting-for-reports"; have: number; need: number }
  | { phase: "settling"; have: number }
  | { phase: "waiting-for-member"; member: string }
  | { phase: "closing" }
  | { phase: "aggregating"; have: number; need: number }
  | { phase: "finished" }
  | { phase: "voided"; reason: string }
  | { phase: "complete" }
  | { phase: "paused" };

/** A block that a quorum of validators has made final, as it was checked here. */
export interface FinalBlock {
  height: number;
  digest: string;
  epoch: number;
  /** When it was proposed. */
  timestampMs: number;
  /** Names of the validators whose signatures were checked. */
  signers: string[];
  /** How many validators there are. */
  validators: number;
}

/** A mesh's ledger, followed to its newest final block. */
export interface LedgerStatus extends FinalBlock {
  /** What names the ledger: the digest of its genesis. */
  chain: string;
  verified: true;
  /**
   * Height of the newest final block that this device has seen on this chain. If it is above `height`, the mesh shows an older
   * block than it did, and may be keeping newer ones from this device.
   */
  seen: number;
  /** What checking took, without the network. */
  ms: number;
  /** Whether its id was given, or taken from the mesh itself when it was first met. */
  trust: "pinned" | "first-use";
}

/** That a report is counted, as it was checked here. */
export interface Receipt extends FinalBlock {
  chain: string;
  task: string;
  round: number;
  report: string;
  /** SHA-256 of the model that the report is in. */
  model: string;
  /** Reports of its batch, of which it is one. */
  accepted: number;
  /** What the ledger pays for it, if it is claimed. */
  reward: number;
  ms: number;
  verifiedMs: number;
  /** The bytes that show it, in base64url. */
  served: { receipt: string; header: string; certificate: string; below?: string[] };
}

/** What an account has, as it was checked here. */
export interface Balance extends FinalBlock {
  node: string;
  balance: number;
  /** Transactions of it so far. */
  nonce: number;
  ms: number;
}

/** Where a round stands on the ledger, as it was checked here. */
export interface LedgerRound extends FinalBlock {
  stage: "open" | "opened" | "proposed" | "finished" | "voided";
  /** Reports of its batches. */
  accepted: number;
  /** Validators that accepted its model, and that complained. */
  accepts: number;
  complaints: number;
  /** What a report earns, and what is not claimed yet; of a finished round only. */
  perReport: number | null;
  unclaimed: number | null;
  model: string | null;
  ms: number;
}

/** How a mesh is joined. */
export interface JoinOptions {
  /**
   * The id of the mesh's ledger, learnt from somebody who is trusted. Without it, the ledger that the mesh has when this
   * device first meets it is trusted, and only that one from then on.
   */
  chain?: string;
}

/** What the mesh serves of its ledger; nothing of it is believed before the wasm has checked it. */
export interface ServedGenesis {
  chain: string;
  genesis: string;
}

export interface ServedHeader {
  header: string;
  certificate: string;
  /** Headers below it, down to the one that is meant; none if that is the certified one. */
  below?: string[];
}

export interface ServedOpening extends ServedHeader {
  tx: string;
  proof: string;
}

export interface ServedState extends ServedHeader {
  proof: string;
}

export interface ServedReceipt extends ServedHeader {
  receipt: string;
}

/** The open round of a task. */
export interface RoundView {
  round: number;
  signed: SignedText;
  /** SHA-256 of the model to train on. */
  baseModel: string;
  openedMs: number;
  deadlineMs: number;
  phase: RoundPhase;
  /** The phase in words. */
  text: string;
  acceptsReports: boolean;
  pending: number;
  verified: number;
  /** Refused reports, by reason. */
  rejected: Record<string, number>;
  /** How often the report of a full node's silo counts, by the node's name; all others count once. */
  weights?: Record<string, number>;
  minBatch: number;
  maxBatch: number;
  /** The block that has its opening, by the mesh's word; null: not final yet. */
  ledger?: { height: number } | null;
}

/** A round that is over. */
export interface RoundRecord {
  round: number;
  outcome: "finished" | "voided";
  reason: string | null;
  model: string | null;
  reports: number;
  rejected: Record<string, number>;
  finishedMs: number;
  metrics: Metrics | null;
  /** What those who contributed found of the model that the round started from, in tasks with votes. */
  votes?: Votes;
}

/** Private votes: how good a model is on the contributors' own rows. */
export interface Votes {
  /** How many for each bin of accuracy, from the lowest to the highest; noise makes some negative. */
  bins: number[];
  votes: number;
  mean: number;
  /** Mean accuracy of the quarter of votes with the lowest. */
  worstQuarter: number;
  /** Standard deviation of the noise in each bin. */
  deviation: number;
}

/** A task of the mesh. */
export interface TaskView {
  /** SHA-256 of the manifest's text. */
  id: string;
  name: string;
  title: string;
  summary: string;
  model: "softmax" | "mlp" | "linear";
  dimension: number;
  paused: boolean;
  /** The signed manifest. */
  signed: SignedText;
  round: RoundView | null;
  /** Only where one task is asked for. */
  history?: RoundRecord[];
  initial: Metrics | null;
  /** SHA-256 of the newest model. */
  currentModel: string;
  /** Path of sample rows. */
  sample: string | null;
  roundsDone: number;
  rounds: number;
  /** What the task promises each contributor over all its rounds; null: no noise is added. */
  privacy: Privacy | null;
  /** What the ledger waits for before the next round opens, in words. */
  ledgerWaits?: string | null;
}

/** Differential privacy of a task, and what of it is spent. */
export interface Privacy {
  epsilon: number;
  delta: number;
  /** Epsilon of the rounds so far, at this delta. */
  spent: number;
  roundsLeft: number;
  /** Standard deviation of the noise in a round's total, in units of the clip norm. */
  noise: number;
}

/** A node of the mesh. */
export interface NodeView {
  id: string;
  name: string;
  role: "full" | "aggregation";
  /** Base address of its HTTP side, absolute or relative to the mesh. */
  http: string;
  /** Multiaddresses. */
  addresses: string[];
  reachable: boolean;
}

/** Who runs the mesh, and its nodes. */
export interface MeshView {
  aggregation: { id: string; name: string };
  nodes: NodeView[];
  /** The ledger that the mesh keeps, by its own word. */
  ledger?: { chain: string; height: number } | null;
}

/** CSV text with a header line. */
export type Rows = string | Uint8Array | Blob;

/** The way a report takes to its leader. */
export type Path = "webrtc" | "https";

/** What is wrong with a row. Rows count from 1, after the header, without empty lines. */
export interface DataProblem {
  row: number | null;
  /** Line of the file where the row begins, from 1. */
  line: number | null;
  column: string | null;
  message: string;
}

/** What `Mesh.check` found. */
export interface Checked {
  /** Rows that can be used; 0 if there are errors. */
  rows: number;
  errors: DataProblem[];
}

/** What happens while a contribution is made. */
export type LightEvent =
  | {
      /** The round's opening is final, before anything is trained; only where the mesh keeps a ledger. */
      kind: "step";
      step: "final";
      ms: number;
      round: number;
      height: number;
      signers: string[];
      validators: number;
    }
  | { kind: "step"; step: "read"; ms: number; rows: number; bytes: number }
  | { kind: "training"; epoch: number; epochs: number; loss: number }
  | {
      kind: "step";
      step: "trained";
      ms: number;
      /** Size of the encoded update. */
      bytes: number;
      /** Loss of the round's model on these rows. */
      lossBefore: number;
      /** Loss of the same model with this update, as it will be sent, added to it. */
      lossAfter: number;
      /** L2 norm of the update before clipping. */
      norm: number;
      clipped: boolean;
    }
  /** This device has tried this leader in vain; another committee is drawn. */
  | { kind: "away"; node: string }
  | { kind: "step"; step: "split"; ms: number; bytes: number }
  | { kind: "step"; step: "sealed"; ms: number; bytes: number; report: string; round: number }
  | { kind: "path"; path: Path; because: string | null; node: string }
  | { kind: "connected"; path: Path; ms: number }
  | { kind: "upload"; sent: number; total: number; resumedFrom: number }
  | { kind: "kept"; retryMs: number; because: string }
  | { kind: "step"; step: "sent"; ms: number; bytes: number; path: Path; because: string | null };

/** How a contribution is followed and stopped. */
export interface FollowOptions {
  onEvent?: (event: LightEvent) => void;
  /** Stops it. A report that was already sealed stays kept, and `Mesh.resume` sends it. */
  signal?: AbortSignal;
}

/** A contribution to make. */
export interface ContributeOptions extends FollowOptions {
  /** Name or id of the task. */
  task: string;
  rows: Rows;
  /** A whole number from 0 on; random if left out. */
  seed?: number;
}

/** A contribution that its leader has stored. */
export interface Contribution {
  task: string;
  taskName: string;
  round: number;
  report: string;
  /** Name of the leader. */
  node: string;
  path: Path;
  /** Why it was not WebRTC. */
  because: string | null;
  bytes: number;
}

/** A sealed report that is not delivered yet. */
export interface Kept {
  report: string;
  task: string;
  taskName: string;
  round: number;
  bytes: number;
  deadlineMs: number;
  savedMs: number;
  /** Who sends it now: this page, another tab of this browser, or nobody. */
  sending: "here" | "elsewhere" | null;
}

/** What became of a report. */
export interface Outcome {
  state: "pending" | "verified" | "rejected" | "unknown";
  /** The reason's stable word, if it was rejected. */
  reason: string | null;
  /** The same for a person. */
  text: string | null;
}

/** What a model says of one row. */
export type Prediction =
  | {
      kind: "class";
      class: string;
      /** In the order of the label's classes. */
      probabilities: number[];
    }
  | { kind: "number"; value: number };

/** A row's answer. */
export type Score = Prediction & {
  /** From 1. */
  row: number;
  /** From the row in the clear to its answer in the clear. */
  ms: number;
};

/** Rows to ask a model about. */
export interface ScoreOptions {
  /** Name or id of the task. */
  task: string;
  /** They need no label. */
  rows: Rows;
  /** Name of the full node to ask; any that can be reached if left out. */
  node?: string;
  onScore?: (score: Score) => void;
  signal?: AbortSignal;
}

/** What a full node's model says of rows that only this device can read. */
export interface Scores {
  task: string;
  /** Name of the full node that answered. */
  node: string;
  /** SHA-256 of the model. */
  model: string;
  /** Whether the mesh says that it is the task's newest. */
  newest: boolean;
  scores: Score[];
}

/** How a light node comes to be enrolled for a task: anybody enrols a key, or with an invite's code, or an admin does. */
export type Admission = "open" | "invite" | "approved";

/** This device's key for a task, and how it is enrolled. */
export interface Enrolment {
  /** Null: anybody contributes to the task, without a key and any number of times. */
  admission: Admission | null;
  /** The public key, base64url. Its contributions to this task can be linked to each other, and to no other task. */
  key: string | null;
  /** Whether this browser keeps it. If not, it is another one after the page is loaded again. */
  kept: boolean;
}

/** Whether this device's key takes part in a task, proven under a final block. */
export interface Enrolled extends FinalBlock {
  key: string;
  /** Whether this browser keeps the key. */
  kept: boolean;
  /** `none`: it was never enrolled. `removed`: an admin has ended it, and only an admin takes that back. */
  state: "none" | "active" | "removed";
  /** Rounds whose reward it has, of those that could be claimed again. */
  claimed: number[];
  /** What checking took, without the network. */
  ms: number;
}

/** What a finished round pays for this device's report. */
export interface Reward {
  round: number;
  points: number;
}

/** What this device's key for a task has, and what it can claim. */
export interface Rewards extends Balance {
  /** Oldest first. The newest 64 rounds of a task can be claimed, once each. */
  claimable: Reward[];
}

/** How rewards are claimed. */
export interface ClaimOptions {
  /** Name or id of the task. */
  task: string;
  signal?: AbortSignal;
}

/** What a claim came to. */
export interface Claimed extends Balance {
  /** What was paid. */
  paid: Reward[];
  /** What the key had before. */
  before: number;
}

/** How this device's key is enrolled. */
export interface EnrolOptions {
  /** Name or id of the task. */
  task: string;
  /** The code of an invite, where the task asks for one; spaces, hyphens and small letters in it do not matter. */
  invite?: string;
  signal?: AbortSignal;
}

/** A contribution that was delivered from this browser. */
export interface Given {
  report: string;
  task: string;
  taskName: string;
  round: number;
  sentMs: number;
  /** Its verified receipt, once `Mesh.receipt` had one. */
  receipt?: Receipt | null;
}

/** What this device has spent of a task's privacy budget. */
export interface Spent {
  /** Rounds that it has contributed to. */
  rounds: number;
  /** The most contributions of one round: each of them is promised the task's epsilon, so several add up. */
  mostARound: number;
  /** Epsilon of those rounds at the task's delta, if one contribution a round was made; null: the task has no noise. */
  epsilon: number | null;
}

/** A finished round to check. */
export interface AuditOptions {
  /** Name or id of the task. */
  task: string;
  round: number;
  /** Random blocks of 4,096 coordinates that are added up again; 3 if left out. */
  blocks?: number;
  signal?: AbortSignal;
}

/** What an audit found. */
export interface Audited {
  task: string;
  round: number;
  /** Digest of the round's signed record, which is the one that the mesh shows: compare it with the ledger's, as `defim audit` does. */
  record: string;
  /** The blocks that were added up again here. */
  blocks: number[];
  /** Blocks that there are. */
  ofBlocks: number;
  /** Full nodes whose ciphertexts were added. */
  parties: number;
  bytes: number;
  ms: number;
  /** What is wrong with the sum that the aggregation node signed, and the proof of it for others; null: nothing. */
  fraud: { block: number; what: string; proof: Uint8Array } | null;
}

/** A mesh that was joined. */
export interface Mesh {
  tasks(): Promise<TaskView[]>;
  task(nameOrId: string): Promise<TaskView>;
  /** Trains here, and sends one sealed report. Resolves when its leader has stored it. */
  contribute(options: ContributeOptions): Promise<Contribution>;
  /**
   * Asks a full node's model about rows. They are encrypted here, and the node scores them without reading them.
   * Browsers only: it goes over WebRTC.
   */
  score(options: ScoreOptions): Promise<Scores>;
  /** This device's key for a task that counts enrolled light nodes only; it is made here if there is none. */
  enrolment(task: string): Promise<Enrolment>;
  /** Whether this device's key is enrolled for a task, as the mesh's ledger has it; checked here. The key is made if there is none. */
  enrolled(task: string): Promise<Enrolled>;
  /**
   * Enrols this device's key for a task, and resolves when that is final. Rejects with the ledger's reason: `bad-invite`,
   * `invite-spent`, `not-admitted` and others; with `bad-enrolment` if the code is none, or only an admin enrols keys.
   */
  enrol(options: EnrolOptions): Promise<Enrolled>;
  /** What this device's key for a task has, and what it can claim for the contributions of `given`. Sends nothing. */
  rewards(task: string): Promise<Rewards>;
  /**
   * Claims all of it, each round once, and resolves when that is final. Rejects with the ledger's reason (`not-enrolled` and others), or
   * `not-final`; then it can be called again, and claims what is left.
   */
  claim(options: ClaimOptions): Promise<Claimed>;
  /** Contributions that were delivered from this browser, oldest first. */
  given(): Promise<Given[]>;
  /** What this device has spent of a task's privacy budget by contributing. */
  spent(task: string): Promise<Spent>;
  /** Adds up random blocks of a finished round's encrypted sum again, from what its full nodes signed. */
  audit(options: AuditOptions): Promise<Audited>;
  /** Only reads the rows, and says what is wrong with them. */
  check(task: string, rows: Rows): Promise<Checked>;
  /** Reports that are sealed and not delivered yet. */
  kept(): Promise<Kept[]>;
  /**
   * Sends a kept report; over WebRTC from the byte its leader has it up to. One tab at a time can: the others get
   * `already-sending`.
   */
  resume(report: string, options?: FollowOptions): Promise<Contribution>;
  /** Drops a kept report for good. Stop sending it first. What its leader has stored already may still count. */
  discard(report: string): Promise<void>;
  /** Follows the mesh's ledger to its newest final block, whose certificate is checked here. */
  ledger(): Promise<LedgerStatus>;
  /**
   * The ledger's receipt of a contribution, checked here and kept with what was given. Rejects with `not-counted` or
   * `not-finished` until the validators have accepted the round; `Mesh.ledgerRound` says whether they have voided it.
   */
  receipt(contribution: Pick<Contribution, "task" | "round" | "report">): Promise<Receipt>;
  /** What a key has on the ledger, proven under a final block. */
  balance(key: string): Promise<Balance>;
  /** Where a round stands on the ledger, proven under a final block; null is proven too. */
  ledgerRound(task: string, round: number): Promise<LedgerRound | null>;
  /** Forgets which ledger this mesh is known by. The next one it shows is trusted: ask its operators first. */
  forgetLedger(): Promise<void>;
  outcome(contribution: Pick<Contribution, "task" | "round" | "report" | "node">): Promise<Outcome>;
  /** Ends the worker. Kept reports stay. */
  close(): void;
}

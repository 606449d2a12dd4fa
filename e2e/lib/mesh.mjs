// A mesh of separate processes: one aggregation node and three full nodes.
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { program, run, start, until } from "./process.mjs";

const FULL_NODES = ["full-1", "full-2", "full-3"];
const VALIDATORS = ["validator-1", "validator-2", "validator-3", "validator-4"];
const NODES = ["aggregation", ...FULL_NODES, ...VALIDATORS];

/** Whether a port can be had. */
function free(port) {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}

/** The first of eighty ports, ten a node, below those the system hands out by itself, and above 10080, which no browser asks. */
async function basePort() {
  for (;;) {
    const base = 10_160 + 80 * Math.floor(Math.random() * 248);
    const offsets = NODES.flatMap((_, at) => [10 * at, 10 * at + 1]);
    const all = await Promise.all(offsets.map((offset) => free(base + offset)));
    if (all.every(Boolean)) return base;
  }
}

export class Mesh {
  #dir;
  #running = new Map();

  /** Sets a mesh up and starts its nodes. */
  static async start({ host = "127.0.0.1", tasks = "digits", minBatch = 3, settle = 1, deadline = 3600, admission, votes = false } = {}) {
    const mesh = new Mesh();
    mesh.#dir = await mkdtemp(join(tmpdir(), "defim-e2e-"));
    const base = await basePort();
    mesh.url = `http://${host}:${base}`;
    const init = ["node", "init", "--dir", mesh.#dir, "--host", host, "--base-port", base, "--tasks", tasks];
    const schedule = ["--min-batch", minBatch, "--settle", settle, "--deadline", deadline];
    const admitted = admission === undefined ? [] : ["--admission", admission];
    const voted = votes ? ["--quality-votes"] : [];
    await run(program(), [...init, ...schedule, ...admitted, ...voted].map(String));
    for (const name of NODES) mesh.startNode(name);
    await mesh.ready();
    return mesh;
  }

  startNode(name) {
    const config = join(this.#dir, `${name}.toml`);
    this.#running.set(name, start(program(), ["node", "run", "--config", config]));
  }

  /** Ends a node as a power cut does. */
  async killNode(name) {
    await this.#running.get(name).stop("SIGKILL");
  }

  /** Ends all full nodes: whatever committee a report has, nobody takes it. */
  async killFullNodes() {
    await Promise.all(FULL_NODES.map((name) => this.killNode(name)));
  }

  startFullNodes() {
    for (const name of FULL_NODES) this.startNode(name);
  }

  /** Until every node is reached and the first task has an open round. */
  async ready() {
    await until("the mesh to be up", async () => {
      const { nodes } = await this.get("/mesh");
      const tasks = await this.get("/tasks");
      return nodes.every((node) => node.reachable) && tasks.length > 0 && tasks.every((task) => task.round);
    }).catch((error) => {
      throw new Error(`${error.message}\n${this.logs()}`);
    });
  }

  async get(path) {
    const response = await fetch(`${this.url}/api/v1${path}`);
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return response.json();
  }

  /** A number that the full nodes tell their operators, added up. */
  async metric(name, label) {
    const { nodes } = await this.get("/mesh");
    const full = nodes.filter((node) => node.role === "full");
    const texts = await Promise.all(full.map(async ({ http }) => (await fetch(`${http}/metrics`)).text()));
    const lines = texts.flatMap((text) => text.split("\n"));
    const ours = lines.filter((line) => line.startsWith(`defim_${name}{`) && line.includes(`"${label}"`));
    return ours.reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
  }

  /** A task like `digits` with a network so wide that its report takes a while to send. */
  async createLargeTask(name, hidden) {
    const { signed } = await this.get("/tasks/digits");
    const { learning } = JSON.parse(signed.payload);
    const file = join(this.#dir, `${name}.json`);
    await writeFile(file, JSON.stringify({ ...learning, model: { kind: "mlp", hidden } }));
    const token = join(this.#dir, "aggregation", "admin.token");
    const create = ["task", "create", "--mesh", this.url, "--task", file, "--name", name, "--admin-token", token];
    await run(program(), [...create, "--min-batch", "2", "--settle", "1"]);
    await this.ready();
  }

  /** What a command prints in JSON. */
  async command(...args) {
    return JSON.parse(await run(program(), [...args, "--mesh", this.url, "--json"].map(String)));
  }

  /** The same of one that an admin signs. */
  admin(...args) {
    return this.command(...args, "--admin-key", join(this.#dir, "admin.key"));
  }

  /** A native light node that takes part in some rounds; resolves to its JSON lines. With an `invite`, or as its `own`, it enrols a key. */
  async contribute({ task = "digits", data, rounds = 1, invite, own = invite !== undefined, wait = true }) {
    const args = ["contribute", "--mesh", this.url, "--task", task, "--data", data, "--rounds", rounds];
    const key = ["--key", `${data}.key`, ...(invite === undefined ? [] : ["--invite", invite])];
    const all = [...args, ...(own ? key : []), ...(wait ? ["--wait"] : []), "--timeout", 240, "--json"];
    const out = await run(program(), all.map(String));
    return out.trim().split("\n").map((line) => JSON.parse(line));
  }

  logs() {
    return [...this.#running].map(([name, node]) => `--- ${name}\n${node.text().slice(-4000)}`).join("\n");
  }

  async stop() {
    await Promise.all([...this.#running.values()].map((node) => node.stop()));
    await rm(this.#dir, { recursive: true, force: true });
  }
}

/** All rows of the digits. */
export const DIGITS = fileURLToPath(new URL("../../crates/learn/data/digits.csv", import.meta.url));

/** Writes rows `from` to `to` of the digits to a file of their own. */
export async function digits(folder, from, to) {
  const [header, ...rows] = (await readFile(DIGITS, "utf8")).trim().split("\n");
  const file = join(folder, `digits-${from}-${to}.csv`);
  await writeFile(file, [header, ...rows.slice(from, to)].join("\n"));
  return file;
}

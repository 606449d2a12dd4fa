// A ledger of many rounds, served by `defim bench --history`.
import { program, start, until } from "./process.mjs";

export class History {
  #node;

  static async start(rounds) {
    const self = new History();
    self.#node = start(program(), ["bench", "--history", String(rounds), "--listen", "127.0.0.1:0", "--json"]);
    const line = await until("the history", () => self.#node.text().split("\n").find((text) => text.startsWith("{")), {
      within: 1_800_000,
    });
    Object.assign(self, JSON.parse(line));
    return self;
  }

  /** What it answers, for a mesh that passes requests about its ledger on. */
  async answer(path) {
    const response = await fetch(`${this.mesh}${path}`);
    return { status: response.status, bytes: Buffer.from(await response.arrayBuffer()) };
  }

  stop() {
    return this.#node.stop();
  }
}

// What the tests share: the wasm on this thread, the signed fixture, sample rows.
import { readFileSync } from "node:fs";
import * as light from "../wasm/light.js";

light.initSync({ module: readFileSync(new URL("../wasm/light_bg.wasm", import.meta.url)) });

export { light };
export const fixture = JSON.parse(readFileSync(new URL("fixture.json", import.meta.url), "utf8"));
export const model = new Uint8Array(Buffer.from(fixture.model, "base64"));
export const manifest = JSON.stringify(fixture.manifest);
export const round = JSON.stringify(fixture.round);
export const NOW = fixture.openedMs + 1_000;

const digits = readFileSync(new URL("../../crates/learn/data/digits.csv", import.meta.url), "utf8");
const lines = digits.trimEnd().split("\n");

/** The header and the first `n` rows of handwritten digits. */
export function csv(n = 75) {
  return `${lines.slice(0, n + 1).join("\n")}\n`;
}

export const bytes = (text) => new TextEncoder().encode(text);

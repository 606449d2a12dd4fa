import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const root = new URL("../", import.meta.url);

test("the tarball has the code, the wasm, the types and the README", () => {
  const options = { cwd: fileURLToPath(root), encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] };
  const [pack] = JSON.parse(execFileSync("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], options));
  const files = pack.files.map((file) => file.path);
  const wanted = [
    "README.md", "LICENSE-APACHE", "LICENSE-MIT", "package.json", "dist/index.js", "dist/index.d.ts", "dist/types.d.ts",
    "dist/worker.js", "wasm/light.js", "wasm/light.d.ts", "wasm/light_bg.wasm",
  ];
  for (const name of wanted) assert.ok(files.includes(name), `${name} is missing`);
  assert.ok(!files.some((name) => name.startsWith("test/") || name.startsWith("src/")), "no tests, no sources");
});

test("the lock file names no registry", () => {
  const lock = readFileSync(new URL("package-lock.json", root), "utf8");
  assert.doesNotMatch(lock, /"resolved"|https?:\/\//);
});

test("its wasm asks for nothing but what its own JavaScript gives", async () => {
  const module = await WebAssembly.compile(readFileSync(new URL("wasm/light_bg.wasm", root)));
  const from = new Set(WebAssembly.Module.imports(module).map((wanted) => wanted.module));
  assert.deepEqual([...from], ["./light_bg.js"]);
});

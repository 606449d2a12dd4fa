// Programs that tests start, and only those.
import { spawn } from "node:child_process";
import { once } from "node:events";

const running = new Set();
process.once("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

/** The `defim` binary, as `cargo xtask test` built it. */
export function program() {
  const path = process.env.DEFIM_BIN;
  if (!path) throw new Error("DEFIM_BIN is not set; run these tests with: cargo xtask test --only e2e");
  return path;
}

/** Starts a program; `text()` is what it has written so far. */
export function start(path, args, options = {}) {
  const child = spawn(path, args, { stdio: ["ignore", "pipe", "pipe"], ...options });
  running.add(child);
  let out = "";
  let all = "";
  child.stdout.on("data", (bytes) => {
    out += bytes;
    all += bytes;
  });
  child.stderr.on("data", (bytes) => {
    all += bytes;
  });
  const ended = once(child, "close").then(([code, signal]) => {
    running.delete(child);
    return { code, signal, out, all };
  });
  return {
    child,
    ended,
    text: () => all,
    async stop(signal = "SIGTERM") {
      if (child.exitCode === null && child.signalCode === null) child.kill(signal);
      const late = setTimeout(() => child.kill("SIGKILL"), 10_000);
      await ended;
      clearTimeout(late);
    },
  };
}

/** Runs a program to its end and gives what it printed. */
export async function run(path, args, options) {
  const { code, out, all } = await start(path, args, options).ended;
  if (code !== 0) throw new Error(`${args.join(" ")} ended with ${code}:\n${all}`);
  return out;
}

/** Asks until the answer is there; says what it waited for when it is not. */
export async function until(what, ask, { within = 60_000, every = 100 } = {}) {
  const end = Date.now() + within;
  for (let last; ; ) {
    try {
      const answer = await ask();
      if (answer) return answer;
    } catch (error) {
      last = error;
    }
    if (Date.now() > end) throw new Error(`waited ${within / 1000} s for ${what}${last ? `: ${last.message}` : ""}`);
    await new Promise((resolve) => setTimeout(resolve, every));
  }
}

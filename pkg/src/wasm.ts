import init, * as light from "../wasm/light.js";
import { LightError } from "./error.js";

/** The light node's exports, ready to be called. */
export type Light = typeof light;

let compiled: Promise<WebAssembly.Module> | undefined;
let instance: Promise<Light> | undefined;

/** Fetched and compiled once; workers are handed the module. A failure is not remembered. */
export function lightModule(): Promise<WebAssembly.Module> {
  compiled ??= compile().catch((cause: unknown) => {
    compiled = undefined;
    throw new LightError("no-wasm", `The light node could not be loaded (${String(cause)}). Check the connection and try again.`);
  });
  return compiled;
}

/** This thread's instance. */
export function loadLight(): Promise<Light> {
  instance ??= lightModule().then(startLight).catch((error: unknown) => {
    instance = undefined;
    throw error;
  });
  return instance;
}

/** An instance on this thread of a module that was compiled elsewhere. */
export async function startLight(module: WebAssembly.Module): Promise<Light> {
  await init({ module_or_path: module });
  return light;
}

async function compile(): Promise<WebAssembly.Module> {
  const url = new URL("../wasm/light_bg.wasm", import.meta.url);
  if (url.protocol === "file:") {
    // In a variable, so that bundlers for browsers do not look for it.
    const name = "node:fs/promises";
    const files = (await import(name)) as { readFile(file: URL): Promise<Uint8Array<ArrayBuffer>> };
    return WebAssembly.compile(await files.readFile(url));
  }
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url.pathname}: HTTP ${response.status}`);
  // A server that sends another media type is no reason to fail.
  return response.headers.get("content-type")?.startsWith("application/wasm")
    ? WebAssembly.compileStreaming(response)
    : WebAssembly.compile(await response.arrayBuffer());
}

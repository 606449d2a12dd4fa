import type { DataProblem } from "./types.js";

/** Something went wrong; `code` is stable, `message` says what happened and what to do. */
export class LightError extends Error {
  readonly code: string;
  readonly problems?: DataProblem[];

  constructor(code: string, message: string, problems?: DataProblem[]) {
    super(message);
    this.name = "LightError";
    this.code = code;
    if (problems !== undefined) this.problems = problems;
  }
}

/** What crosses a worker's border: classes do not. */
export interface PlainError {
  code: string;
  message: string;
  problems?: DataProblem[];
}

/** Whatever was thrown, as a `LightError`. */
export function asLightError(thrown: unknown): LightError {
  if (thrown instanceof LightError) return thrown;
  if (typeof thrown === "object" && thrown !== null) {
    const { code, message, problems } = thrown as Partial<PlainError>;
    if (typeof code === "string" && typeof message === "string") {
      return new LightError(code, message, problems ?? undefined);
    }
    if (thrown instanceof WebAssembly.RuntimeError) {
      return new LightError("crashed", `The light node stopped unexpectedly (${thrown.message}). Nothing was sent; load the page again.`);
    }
    if (thrown instanceof Error) return new LightError("unexpected", thrown.message);
  }
  return new LightError("unexpected", String(thrown));
}

export function plain(error: LightError): PlainError {
  const { code, message, problems } = error;
  return problems === undefined ? { code, message } : { code, message, problems };
}

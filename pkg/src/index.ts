import { HttpMesh } from "./mesh.js";
import type { JoinOptions, Mesh } from "./types.js";

export { LightError } from "./error.js";
export type * from "./types.js";

/**
 * Joins the mesh at this address; in a page, the address the page came from if left out.
 * Rejects with a `LightError` if there is none.
 */
export function joinMesh(base?: string, options: JoinOptions = {}): Promise<Mesh> {
  return HttpMesh.join(base, options);
}

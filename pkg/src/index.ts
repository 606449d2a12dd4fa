import { HttpMesh } from "./mesh.js";
import type { Mesh } from "./types.js";

export { LightError } from "./error.js";
export type * from "./types.js";

/**
 * Joins the mesh at this address; in a page, the address the page came from if left out.
 * Rejects with a `LightError` if there is none.
 */
export function joinMesh(base?: string): Promise<Mesh> {
  return HttpMesh.join(base);
}

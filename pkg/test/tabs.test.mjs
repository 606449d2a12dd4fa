// Two tabs of one browser: two instances of the module that share the browser's locks.
import assert from "node:assert/strict";
import { test } from "node:test";

/** The browser's locks, as far as a claim uses them. */
class Locks {
  held = new Map();

  async request(name, { ifAvailable }, act) {
    assert.ok(ifAvailable, "nobody waits for a lock");
    if (this.held.has(name)) return act(null);
    this.held.set(name, {});
    try {
      return await act({ name });
    } finally {
      this.held.delete(name);
    }
  }

  async query() {
    return { held: [...this.held.keys()].map((name) => ({ name })), pending: [] };
  }
}

test("one tab has a report, the others are told, and it is free when it is given back", async (t) => {
  const before = Object.getOwnPropertyDescriptor(globalThis, "navigator");
  t.after(() => (before ? Object.defineProperty(globalThis, "navigator", before) : delete globalThis.navigator));
  Object.defineProperty(globalThis, "navigator", { configurable: true, value: { locks: new Locks() } });
  const [one, two] = await Promise.all([import("../dist/claim.js?tab=1"), import("../dist/claim.js?tab=2")]);

  const mine = await one.claim("r");
  assert.ok(mine);
  assert.equal(await one.claim("r"), undefined, "a tab has it once");
  assert.equal(await two.claim("r"), undefined);
  assert.equal((await one.senders())("r"), "here");
  assert.equal((await two.senders())("r"), "elsewhere");
  assert.equal((await two.senders())("other"), null);

  await mine.release();
  const next = await two.claim("r");
  assert.ok(next, "free at once, not some time later");
  assert.equal((await one.senders())("r"), "elsewhere");
  await next.release();
});

test("where a browser has no locks, a page is kept apart from itself", async () => {
  const { claim, senders } = await import("../dist/claim.js?tab=3");
  const mine = await claim("r");
  assert.equal(await claim("r"), undefined);
  assert.equal((await senders())("r"), "here");
  await mine.release();
  assert.equal((await senders())("r"), null);
});

const PREFIX = "brainstems-light:";

/** Reports that this page sends. */
const here = new Set<string>();

/** The right to send a report, or to drop it. */
export interface Claim {
  release(): Promise<void>;
}

// Node.js 20 has neither, and pages that were not loaded over HTTPS have no locks.
function locks(): LockManager | undefined {
  return (globalThis.navigator as Navigator | undefined)?.locks;
}

/**
 * Claims a report, unless this page or another tab of this browser has it. The browser gives the claim
 * back when the tab is closed or crashes. Where there are no locks, only this page is kept apart from itself;
 * a report that two tabs send still counts once.
 */
export async function claim(report: string): Promise<Claim | undefined> {
  if (here.has(report)) return undefined;
  here.add(report);
  let letGo: (() => void) | undefined;
  let over: Promise<unknown> | undefined;
  const manager = locks();
  if (manager !== undefined) {
    const got = await new Promise<boolean>((resolve, reject) => {
      over = manager.request(PREFIX + report, { ifAvailable: true }, (lock) => {
        resolve(lock !== null);
        return lock === null ? undefined : new Promise<void>((done) => (letGo = done));
      });
      over.catch(reject);
    }).catch(() => true);
    if (!got) {
      here.delete(report);
      return undefined;
    }
  }
  return {
    async release() {
      letGo?.();
      // The lock is free only when this has settled; who claims it next must not come too early.
      await over?.catch(() => {});
      here.delete(report);
    },
  };
}

/** Who sends each report at this moment. */
export async function senders(): Promise<(report: string) => "here" | "elsewhere" | null> {
  const { held = [] } = (await locks()?.query().catch(() => undefined)) ?? {};
  const names = new Set(held.map(({ name }) => name));
  return (report) => (here.has(report) ? "here" : names.has(PREFIX + report) ? "elsewhere" : null);
}

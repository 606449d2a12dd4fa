// How long a browser takes from the genesis to the head of a long ledger, over all hand-overs:
// `npm run bench:history -- 10000` with what `cargo xtask test --only e2e` sets: DEFIM_BIN, DEFIM_SITE, CHROMIUM.
import { ContributePage, browser } from "../lib/browser.mjs";
import { CannedMesh } from "../lib/canned.mjs";
import { History } from "../lib/history.mjs";

const rounds = Number(process.argv[2] ?? 10_000);
const RUNS = 5;

const history = await History.start(rounds);
const mesh = await CannedMesh.start(9, { claimed: history.chain, elsewhere: (path) => history.answer(path) });
const chromium = await browser();
try {
  const times = { page: [], sync: [] };
  for (let run = 0; run < RUNS; run += 1) {
    // A fresh profile knows nothing of the ledger.
    const context = await chromium.newContext();
    const started = performance.now();
    const page = await ContributePage.open(context, `${mesh.url}/ledger`);
    await page.has("verified", "data-state", "right");
    times.page.push(performance.now() - started);
    await context.close();
    const other = await chromium.newContext();
    const { page: blank } = await ContributePage.open(other, `${mesh.url}/bench.html`);
    const synced = await blank.evaluate(async () => {
      const { joinMesh } = await import("/light/dist/index.js");
      const joined = await joinMesh();
      const begun = performance.now();
      const { height, epoch } = await joined.ledger();
      return { height, epoch, ms: performance.now() - begun };
    });
    if (synced.height !== history.height) throw new Error(`synced to ${synced.height} and not to ${history.height}`);
    times.sync.push(synced.ms);
    times.epoch = synced.epoch;
    await other.close();
  }
  const median = (all) => all.sort((a, b) => a - b)[Math.floor(all.length / 2)];
  for (const step of ["sync", "page"]) {
    const row = { scheme: "ledger-browser", step, dim: rounds, median_ms: Math.round(median(times[step])), epochs: times.epoch, blocks: history.height };
    console.log(JSON.stringify(row));
  }
} finally {
  await chromium.close();
  mesh.stop();
  await history.stop();
}

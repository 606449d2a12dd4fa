// The client against a mesh that keeps a ledger.
import assert from "node:assert/strict";
import { test } from "node:test";
import { LightError, joinMesh } from "../dist/index.js";
import { Ledger } from "../dist/ledger.js";
import { owed } from "../dist/rewards.js";
import { remember } from "../dist/store.js";
import { canned, mesh, task } from "./canned.mjs";
import { csv, fixture } from "./light.mjs";

const names = ["validation-2", "validation-3", "validation-4", "validation-5"];

test("the head is followed over the hand-overs, and its signers have their names", async (t) => {
  const { base, ledger, asked } = await mesh(t, { height: 9 });
  const client = await joinMesh(base);
  const status = await client.ledger();
  assert.deepEqual(
    [status.chain, status.height, status.seen, status.verified, status.trust, status.validators],
    [canned.chain, 9, 9, true, "first-use", 4],
  );
  assert.equal(status.signers.length, 3);
  assert.ok(status.signers.every((name) => names.includes(name)), `${status.signers}`);
  assert.ok(status.ms >= 0);
  // The next visit needs neither genesis nor hand-overs.
  asked.length = 0;
  const again = await (await joinMesh(base)).ledger();
  assert.equal(again.height, 9);
  assert.ok(!asked.some((url) => /genesis|handovers/.test(url)), `${asked}`);
  ledger.height = 8;
  for (const visit of [client, await joinMesh(base)]) {
    const older = await visit.ledger();
    assert.deepEqual([older.height, older.seen], [8, 9], "an older block of this epoch is final too, and it is told that it is older");
  }
});

test("what is asked for side by side is checked one after the other", async (t) => {
  const { base } = await mesh(t, { height: 9 });
  const client = await joinMesh(base, { chain: canned.chain });
  const key = canned.states.account.slot.split(".")[1];
  const [status, balance, round] = await Promise.all([client.ledger(), client.balance(key), client.ledgerRound(fixture.task, 2)]);
  assert.deepEqual([status.height, balance.balance, round.stage], [9, 1000, "open"]);
});

/** Answers that are served in turn, the last one for ever; and how many were. */
function inTurn(...answers) {
  const served = { count: 0 };
  served.state = () => answers[Math.min(served.count++, answers.length - 1)];
  return served;
}

test("a state from before what was verified is not taken for the present", { timeout: 60_000 }, async (t) => {
  const { account, account8 } = canned.states;
  const owner = account.slot.split(".")[1];
  const { base, ledger } = await mesh(t, { height: 8 });
  const early = await joinMesh(base);
  assert.equal((await early.balance(owner)).height, 8);
  ledger.height = 9;
  const client = await joinMesh(base);
  assert.equal((await client.balance(owner)).height, 9);
  const replayed = inTurn(account8);
  ledger.state = replayed.state;
  // Nor by a page that has not come so far itself, nor by one that begins anew.
  for (const page of [client, early, await joinMesh(base)]) {
    replayed.count = 0;
    await assert.rejects(page.balance(owner), (error) => {
      assert.equal(error.code, "older-state");
      assert.match(error.message, /after block 8, which is older than block 9, verified on this device before/);
      return true;
    });
    assert.ok(replayed.count > 3, `asked ${replayed.count} times`);
  }
  assert.equal((await client.ledger()).seen, 9);
});

test("a validator that is a block behind another one's head is waited for", async (t) => {
  const { account, account8, round1Open, round1Finished } = canned.states;
  const { base, ledger } = await mesh(t, { height: 9 });
  const client = await joinMesh(base);
  await client.ledger();
  const behind = inTurn(account8, account8, account);
  ledger.state = behind.state;
  const found = await client.balance(account.slot.split(".")[1]);
  assert.deepEqual([found.balance, found.height, behind.count], [account.balance, 9, 3]);
  // Or an epoch, at its end.
  const over = inTurn(round1Open, round1Finished);
  ledger.state = over.state;
  const round = await client.ledgerRound(fixture.task, 1);
  assert.deepEqual([round.stage, round.height, over.count], ["finished", 9, 2]);
});

test("a head that is not final is refused with its reason", async (t) => {
  const { base, ledger } = await mesh(t);
  const client = await joinMesh(base, { chain: canned.chain });
  assert.equal((await client.ledger()).trust, "pinned");
  for (const { code, served, after } of canned.bad.headers.filter(({ after }) => after === 6)) {
    ledger.height = after;
    ledger.head = () => served;
    await assert.rejects(client.ledger(), { code });
  }
});

test("a mesh with another ledger than the one it is known by is refused, until it is forgotten", async (t) => {
  const { base, ledger, uploads } = await mesh(t);
  const client = await joinMesh(base);
  await client.ledger();
  Object.assign(ledger, { claimed: canned.other.chain, genesis: canned.other.genesis });
  const changed = await joinMesh(base);
  const contribution = { task: "digits", rows: csv(20) };
  for (const refused of [changed.ledger(), changed.contribute(contribution)]) {
    await assert.rejects(refused, (error) => {
      assert.equal(error.code, "other-chain");
      assert.match(error.message, /Ask its operators/);
      return true;
    });
  }
  // Nor may it say that it keeps none.
  ledger.claimed = null;
  await assert.rejects((await joinMesh(base)).contribute(contribution), { code: "ledger-gone" });
  assert.equal(uploads.length, 0);
  Object.assign(ledger, { claimed: canned.other.chain });
  await changed.forgetLedger();
  ledger.head = () => canned.headers[5];
  await assert.rejects((await joinMesh(base)).ledger(), (error) => error.code !== "other-chain");
});

test("a chain id that was given is what counts from the first answer on", async (t) => {
  const { base, ledger } = await mesh(t);
  await assert.rejects(joinMesh(base, { chain: canned.other.chain }), { code: "other-chain" });
  await assert.rejects(joinMesh(base, { chain: "short" }), { code: "bad-chain" });
  // The right word, and another genesis behind it.
  ledger.genesis = canned.other.genesis;
  const client = await joinMesh(base, { chain: canned.chain });
  await assert.rejects(client.ledger(), { code: "other-chain" });
});

test("a contribution begins once its round's opening is final", async (t) => {
  let asked = 0;
  const { base, uploads } = await mesh(t, { opening: () => (++asked > 2 ? canned.openings[0] : undefined) });
  const events = [];
  const client = await joinMesh(base);
  const done = await client.contribute({ task: "digits", rows: csv(), onEvent: (event) => events.push(event) });
  const steps = events.filter(({ kind }) => kind === "step");
  assert.deepEqual(steps.map(({ step }) => step), ["final", "read", "trained", "split", "sealed", "sent"]);
  const { round, height, signers, validators } = steps[0];
  assert.deepEqual([round, height, signers.length, validators], [1, 5, 3, 4]);
  assert.equal(asked, 3);
  assert.equal(uploads.length, 1);
  assert.equal(done.round, 1);
});

test("a round from an epoch that is over is found in the newest state", async (t) => {
  const { round1Open } = canned.states;
  const { base, ledger } = await mesh(t, { height: 9 });
  const client = await joinMesh(base);
  await client.ledger();
  // Finished there: training for it would be in vain.
  await assert.rejects(client.contribute({ task: "digits", rows: csv(20) }), { code: "round-closed" });
  ledger.state = () => round1Open;
  await assert.rejects(client.contribute({ task: "digits", rows: csv(20) }), { code: "past-epoch" });
  // Still open some time ago shows nothing of now.
  ledger.view = { ...task, round: { ...task.round, round: 2, signed: canned.statements[1] } };
  ledger.state = () => canned.states.round2At8;
  await assert.rejects(client.contribute({ task: "digits", rows: csv(20) }), { code: "older-state" });
});

test("an opening that never becomes final trains nothing", { timeout: 60_000 }, async (t) => {
  // Not in the state either: nothing of it is served, or it is proven that there is no such round.
  const third = { ...task, round: { ...task.round, round: 3 } };
  const trainsNothing = async (changes) => {
    const { base, uploads, asked } = await mesh(t, { opening: undefined, ...changes });
    const client = await joinMesh(base);
    const events = [];
    const contribution = client.contribute({ task: "digits", rows: csv(20), onEvent: (event) => events.push(event) });
    await assert.rejects(contribution, (error) => {
      assert.equal(error.code, "not-final");
      assert.match(error.message, /nothing was trained/);
      return true;
    });
    assert.deepEqual([events, uploads], [[], []]);
    assert.ok(asked.some((url) => url.includes("/state/round.")), `${asked}`);
  };
  await Promise.all([{ state: () => undefined }, { height: 9, view: third }].map(trainsNothing));
});

test("an opening that validators look for no longer is found in the state", { timeout: 60_000 }, async (t) => {
  const { base, ledger, uploads } = await mesh(t, { opening: undefined });
  const client = await joinMesh(base);
  const events = [];
  await client.contribute({ task: "digits", rows: csv(20), onEvent: (event) => events.push(event) });
  const [{ step, round, height, signers, validators }] = events;
  assert.deepEqual([step, round, height, signers.length, validators], ["final", 1, 5, 3, 4]);
  assert.equal(uploads.length, 1);
  // Once it is over, and where the ledger has another opening than the one that was given.
  ledger.height = 9;
  await assert.rejects(client.contribute({ task: "digits", rows: csv(20) }), { code: "round-closed" });
  ledger.view = { ...task, round: { ...task.round, round: 2 } };
  await assert.rejects(client.contribute({ task: "digits", rows: csv(20) }), { code: "other-opening" });
  assert.equal(uploads.length, 1);
});

test("an opening for one person only is refused before anything is trained", async (t) => {
  for (const { code, served } of canned.bad.openings.filter(({ code }) => code === "no-opening")) {
    const { base, uploads } = await mesh(t, { opening: served });
    const events = [];
    const contribution = (await joinMesh(base)).contribute({ task: "digits", rows: csv(20), onEvent: (event) => events.push(event) });
    await assert.rejects(contribution, { code });
    assert.deepEqual([events, uploads], [[], []]);
  }
});

test("waiting for an opening stops when a person stops it", async (t) => {
  const { base } = await mesh(t, { opening: undefined });
  const stop = new AbortController();
  setTimeout(() => stop.abort(), 700);
  const contribution = (await joinMesh(base)).contribute({ task: "digits", rows: csv(20), signal: stop.signal });
  await assert.rejects(contribution, { code: "aborted" });
});

test("a receipt is checked here; without one the report is not counted", async (t) => {
  const { base, ledger } = await mesh(t, { height: 9 });
  const client = await joinMesh(base);
  const contribution = { task: fixture.task, round: 1, report: canned.receipt.report };
  const receipt = await client.receipt(contribution);
  assert.deepEqual(
    [receipt.height, receipt.accepted, receipt.reward, receipt.model, receipt.chain],
    [9, 5, 100, canned.receipt.model, canned.chain],
  );
  assert.equal(receipt.signers.length, 3);
  assert.equal(receipt.served.receipt, canned.receipt.receipt);
  const [somebodyElse] = canned.bad.receipts;
  await assert.rejects(client.receipt({ ...contribution, report: somebodyElse.report }), { code: "not-in-batch" });
  ledger.receipt = undefined;
  await assert.rejects(client.receipt(contribution), { code: "not-counted" });
  const early = canned.bad.receipts.find(({ code }) => code === "not-finished");
  ledger.receipt = early.served;
  await assert.rejects(client.receipt({ ...contribution, round: early.round, report: early.report }), { code: "not-finished" });
  // Known by its ledger: it is refused, and not waited for.
  ledger.claimed = null;
  await assert.rejects(client.receipt(contribution), { code: "ledger-gone" });
});

test("a receipt is kept with the contribution that it is for", async (t) => {
  const { base, ledger } = await mesh(t, { height: 9 });
  const client = await joinMesh(base);
  const { report } = canned.receipt;
  const contribution = { task: fixture.task, round: 1, report };
  await client.receipt(contribution);
  assert.deepEqual(await client.given(), [], "what was not given here is not kept here");
  await remember({ base: `${base}/`, report, task: fixture.task, taskName: "digits", round: 1, sentMs: 1 });
  await client.receipt(contribution);
  const [given] = await client.given();
  assert.deepEqual([given.receipt.report, given.receipt.height], [report, 9]);
  // Kept: the mesh is not asked again.
  ledger.receipt = undefined;
  assert.deepEqual(await client.receipt(contribution), given.receipt);
});

test("balances and rounds are proven", async (t) => {
  const { base } = await mesh(t, { height: 9 });
  const client = await joinMesh(base);
  const owner = ({ slot }) => slot.split(".")[1];
  const { account, nobody } = canned.states;
  const found = await client.balance(owner(account));
  assert.deepEqual([found.balance, found.height, found.signers.length], [account.balance, 9, 3]);
  assert.equal((await client.balance(owner(nobody))).balance, 0);
  await assert.rejects(client.balance("me"), { code: "bad-key" });
  const round = await client.ledgerRound("digits", 1);
  assert.deepEqual([round.stage, round.accepts, round.perReport], ["finished", 4, 100]);
  assert.equal(await client.ledgerRound(fixture.task, 3), null);
});

test("a mesh without a ledger is used as before, and says that there is none to check", async (t) => {
  const { base, uploads } = await mesh(t, { claimed: null });
  const client = await joinMesh(base);
  await client.contribute({ task: "digits", rows: csv(20) });
  assert.equal(uploads.length, 1);
  await assert.rejects(client.ledger(), { code: "no-ledger" });
});

const enrolledTask = { id: fixture.enrolled.task, signed: fixture.enrolled.manifest };

test("whether a device is enrolled is proven, and nothing is sent where it is not", async (t) => {
  const { base, ledger, asked } = await mesh(t, { height: 9 });
  ledger.view = { ...ledger.view, ...enrolledTask };
  const client = await joinMesh(base);
  const { key } = await client.enrolment("digits");
  // The proof of another place in the state shows nothing of this one.
  ledger.state = (slot) => (slot.startsWith("light.") ? canned.states.account : undefined);
  await assert.rejects(client.enrolled("digits"), { code: "bad-proof" });
  await assert.rejects(client.enrol({ task: "digits", invite: "0".repeat(26) }), { code: "bad-proof" });
  assert.ok(asked.includes(`/api/v1/ledger/state/light.${fixture.enrolled.task}.${key}`), `${asked}`);
  assert.ok(!asked.some((url) => url.endsWith("/txs")), "nothing is sent to a ledger that proves nothing");
});

/** A ledger of which a key's standing is told here, in turn: no enrolment stands in the canned one. It refuses what is sent. */
function refusing(base, ...standing) {
  const sent = [];
  const submit = async (tx) => {
    sent.push(tx);
    throw new LightError("invite-spent", "All uses of the invite are over.");
  };
  const told = inTurn(...standing);
  const ledger = new (class extends Ledger {
    light = async (_chain, _task, key) => ({ key, state: told.state() });
    balance = async (_chain, node) => ({ node, balance: 0, nonce: 4 });
  })({ base, submit, genesis: async () => ({ genesis: canned.genesis }) }, canned.chain);
  const enrol = () => ledger.enrol(canned.chain, fixture.task, "key", (_chain, nonce) => new Uint8Array([nonce]), new AbortController().signal);
  return { enrol, sent, told };
}

test("an enrolment that the first answers refuse has worked if the ledger has it", { timeout: 30_000 }, async () => {
  const { enrol, sent, told } = refusing("http://taken.test/", "none", "none", "none", "active");
  assert.equal((await enrol()).state, "active");
  assert.deepEqual([sent, told.count], [[new Uint8Array([4])], 4]);
});

test("an enrolment that is refused and stays away is refused with its reason", { timeout: 30_000 }, async () => {
  const { enrol, sent, told } = refusing("http://refused.test/", "none");
  const started = performance.now();
  await assert.rejects(enrol(), { code: "invite-spent", message: "All uses of the invite are over." });
  assert.equal(sent.length, 1, "it is not sent again");
  assert.ok(told.count > 5, `asked ${told.count} times`);
  assert.ok(performance.now() - started < 10_000);
});

/** A ledger on which claims are told here, in turn: each answer is the account's next number and the rounds that are paid. */
function paying(base, submit, ...standing) {
  const sent = [];
  let asked = 0;
  const now = () => standing[Math.min(asked, standing.length - 1)];
  const answer = async (tx) => {
    sent.push([...tx]);
    await submit?.(sent.length);
  };
  const ledger = new (class extends Ledger {
    balance = async (_chain, node) => ({ node, balance: 0, nonce: now()[0] });
    light = async (_chain, _task, key) => {
      const [, claimed] = now();
      asked += 1;
      return { key, state: "active", claimed };
    };
  })({ base, submit: answer, genesis: async () => ({ genesis: canned.genesis }) }, canned.chain);
  const wanted = (round) => ({ round, sign: (_chain, nonce) => new Uint8Array([round, nonce]) });
  const claim = (...rounds) => ledger.claim(canned.chain, fixture.task, "key", rounds.map(wanted), new AbortController().signal);
  return { claim, sent, asked: () => asked };
}

test("rewards are claimed with ascending numbers, each once, until all are there", { timeout: 30_000 }, async () => {
  const { claim, sent } = paying("http://paid.test/", undefined, [4, []], [4, []], [5, [1]], [6, [1, 2]]);
  await claim(1, 2);
  // When the account goes on, what is left is sent as it was: the same bytes, which validators know.
  assert.deepEqual(sent, [[1, 4], [2, 5], [2, 5]]);
});

test("what is paid already is not sent", async () => {
  const { claim, sent } = paying("http://had.test/", undefined, [4, [1, 2]]);
  await claim(1, 2);
  assert.deepEqual(sent, []);
});

test("a claim that another tab has made is no failure, and those after it are sent with the numbers that follow", { timeout: 30_000 }, async () => {
  for (const code of ["already-claimed", "refused", "nonce-used"]) {
    const refuse = (count) => {
      if (count === 1) throw new LightError(code, "Another one came first.");
    };
    const { claim, sent } = paying(`http://${code}.test/`, refuse, [4, []], [4, []], [5, [1]], [6, [1, 2]]);
    await claim(1, 2);
    assert.deepEqual(sent, [[1, 4], [2, 5]], code);
  }
});

test("a claim that is refused and stays away is refused with its reason", { timeout: 30_000 }, async () => {
  const refuse = () => {
    throw new LightError("not-enrolled", "The key is not enrolled for this task, or was removed from it.");
  };
  const { claim, sent, asked } = paying("http://unpaid.test/", refuse, [4, []]);
  await assert.rejects(claim(1, 2), { code: "not-enrolled" });
  assert.deepEqual(sent, [[1, 4]], "those after it would leave a gap");
  assert.ok(asked() > 5, `asked ${asked()} times`);
});

test("no more claims wait at once than a validator keeps for an account", { timeout: 30_000 }, async () => {
  const rounds = Array.from({ length: 20 }, (_, at) => at + 1);
  const { claim, sent } = paying("http://many.test/", undefined, [0, []], [16, rounds.slice(0, 16)], [20, rounds]);
  await claim(...rounds);
  assert.deepEqual(sent.map(([round]) => round), rounds);
  assert.deepEqual(sent.map(([, nonce]) => nonce), rounds.map((round) => round - 1));
});

test("what is owed is what the ledger has finished, has not paid, and has a receipt of", async () => {
  const given = (round, receipt) => ({ report: `r${round}`, task: "t", taskName: "digits", round, sentMs: round, receipt });
  const receipt = (round) => ({ round, report: `r${round}` });
  const standing = {
    8: { stage: "open", perReport: null }, 7: { stage: "voided", perReport: null }, 6: { stage: "finished", perReport: 100 },
    5: { stage: "finished", perReport: 0 }, 4: { stage: "finished", perReport: 50 }, 3: { stage: "finished", perReport: 50 },
  };
  const looked = [];
  const lookUp = {
    round: async (round) => {
      looked.push(round);
      return standing[round] ?? null;
    },
    receipt: async ({ round, receipt: kept }) => {
      if (round === 4) throw new LightError("not-counted", "The ledger has no receipt for it.");
      return kept ?? receipt(round);
    },
  };
  const all = [1, 2, 3, 4, 5, 6, 7, 8].map((round) => given(round, round === 6 ? receipt(6) : null));
  const found = await owed(all, [], lookUp);
  assert.deepEqual(found, [{ round: 3, points: 50, receipt: receipt(3) }, { round: 6, points: 100, receipt: receipt(6) }]);
  assert.deepEqual(looked, [8, 7, 6, 5, 4, 3, 2], "rounds before one that is gone cannot be claimed any more");
  assert.deepEqual((await owed(all, [6], lookUp)).map(({ round }) => round), [3]);
  // Twice in a round is counted once.
  assert.equal((await owed([given(6, null), given(6, receipt(6))], [], lookUp)).length, 1);
  // What a mesh that is away does not say is not taken for nothing.
  const away = async () => {
    throw new LightError("mesh-unreachable", "It cannot be reached.");
  };
  await assert.rejects(owed(all, [], { ...lookUp, receipt: away }), { code: "mesh-unreachable" });
});

test("nothing is claimed from a ledger that proves nothing, and nothing where nobody enrols", async (t) => {
  const { base, ledger, asked } = await mesh(t, { height: 9 });
  const client = await joinMesh(base);
  await assert.rejects(client.rewards("digits"), { code: "no-enrolment" });
  await assert.rejects(client.claim({ task: "digits" }), { code: "no-enrolment" });
  ledger.view = { ...ledger.view, ...enrolledTask };
  ledger.state = (slot) => (slot.startsWith("light.") ? canned.states.account : undefined);
  await assert.rejects(client.rewards("digits"), { code: "bad-proof" });
  await assert.rejects(client.claim({ task: "digits" }), { code: "bad-proof" });
  assert.ok(!asked.some((url) => url.endsWith("/txs")), "nothing is sent");
});

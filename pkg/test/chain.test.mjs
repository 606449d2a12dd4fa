// The canned chain's good and bad vectors through the wasm: the same as `crates/light/tests/chain.rs` natively.
import assert from "node:assert/strict";
import { test } from "node:test";
import { canned, handOvers } from "./canned.mjs";
import { NOW, fixture, light, manifest, model } from "./light.mjs";

const json = JSON.stringify;
const statement = (round) => json(canned.statements[Math.min(round, 2) - 1]);
const header = (height) => json(canned.headers[height - 1]);

/** A light chain that has seen the block at this height, kept and restored. */
function at(height) {
  const chain = light.Chain.begin(canned.genesis, canned.chain);
  for (let from; (from = chain.needs(header(height))) !== undefined; ) chain.handOver(json(handOvers[from]));
  chain.advance(header(height));
  return light.Chain.restore(chain.bytes());
}

function code(act) {
  try {
    act();
  } catch (error) {
    assert.ok(error.message.length > 20, `${error.code} says what happened: ${error.message}`);
    return error.code;
  }
  return "believed";
}

test("a chain is followed from its pinned genesis over a change of validators", () => {
  const chain = at(9);
  assert.deepEqual([chain.chain, chain.height, chain.epoch], [canned.chain, 9, 2]);
  assert.deepEqual(chain.validators().map(({ node }) => node), canned.validators);
  const { height, digest, signers, validators, timestampMs } = chain.advance(header(9));
  assert.deepEqual([height, digest, timestampMs], [9, canned.headers[8].digest, canned.headers[8].timestampMs]);
  assert.deepEqual([signers.length, validators], [3, 4]);
});

test("another genesis than the pinned one begins nothing", () => {
  assert.equal(code(() => light.Chain.begin(canned.other.genesis, canned.chain)), "other-chain");
  assert.equal(light.Chain.begin(canned.other.genesis, undefined).chain, canned.other.chain);
  assert.equal(code(() => light.Chain.begin("AAAA", undefined)), "malformed");
  assert.equal(code(() => light.Chain.restore(new Uint8Array(9))), "malformed");
});

for (const bad of canned.bad.headers) {
  test(`refused as ${bad.code}: ${bad.name}`, () => {
    const chain = at(bad.after);
    const before = chain.bytes();
    assert.equal(code(() => chain.advance(json(bad.served))), bad.code);
    assert.deepEqual(chain.bytes(), before, "nothing that was believed has changed");
  });
}

test("the opening of a round is believed only if exactly that one is final", () => {
  const block = at(6).checkOpening(canned.task, 1, statement(1), json(canned.openings[0]));
  assert.equal(block.height, 5);
  assert.equal(code(() => at(6).checkOpening(canned.task, 1, statement(2), json(canned.openings[0]))), "other-opening");
  assert.equal(at(9).checkOpening(canned.task, 2, statement(2), json(canned.states.round2)).height, 9);
});

for (const [kind, list] of [["opening", canned.bad.openings], ["round", canned.bad.rounds]]) {
  for (const { name, code: expected, round, served } of list) {
    test(`refused as ${expected}: ${kind}: ${name}`, () => {
      const early = kind === "opening" && served.height === 5 && expected !== "past-epoch";
      assert.equal(code(() => at(early ? 6 : 9).checkOpening(canned.task, round, statement(round), json(served))), expected);
    });
  }
}

test("a receipt is believed for one report of one round", () => {
  const { receipt } = canned;
  const counted = at(9).checkReceipt(canned.task, 1, receipt.report, json(receipt));
  const { block, ...rest } = counted;
  assert.deepEqual(rest, { model: receipt.model, accepted: receipt.accepted, reward: receipt.reward });
  assert.deepEqual([block.height, block.signers.length], [receipt.height, 3]);
});

for (const { name, code: expected, round, report, served } of canned.bad.receipts) {
  test(`refused as ${expected}: receipt: ${name}`, () => {
    assert.equal(code(() => at(9).checkReceipt(canned.task, round, report, json(served))), expected);
  });
}

test("accounts, rounds and names are proven, and so is that there is none", () => {
  const chain = at(9);
  const { account, nobody, round1Finished, round3, newcomer } = canned.states;
  const owner = ({ slot }) => slot.split(".")[1];
  assert.equal(chain.checkAccount(owner(account), json(account)).balance, account.balance);
  assert.equal(chain.checkAccount(owner(nobody), json(nobody)).balance, 0);
  assert.equal(code(() => chain.checkAccount(owner(nobody), json(account))), "bad-proof");
  const { round } = chain.checkRound(canned.task, 1, json(round1Finished));
  assert.deepEqual([round.stage, round.accepted, round.accepts, round.complaints, round.perReport], ["finished", 5, 4, 0, 100]);
  assert.equal(chain.checkRound(canned.task, 3, json(round3)).round, null);
  assert.equal(chain.checkName(canned.newcomer.node, json(newcomer)), canned.newcomer.name);
  assert.ok(chain.validators().some(({ name }) => name === canned.newcomer.name));
});

test("training begins on a final opening, and on no other", () => {
  const task = new light.Task(manifest, fixture.task);
  const [given, other] = [json(fixture.round), json(canned.openings[1])];
  const work = task.contributeFinal(at(6), json(canned.openings[0]), given, model, NOW);
  assert.equal(work.round, 1);
  assert.equal(code(() => task.contributeFinal(at(6), other, given, model, NOW)), "later-epoch");
  assert.equal(code(() => task.contributeFinal(at(9), other, given, model, NOW)), "other-opening");
});

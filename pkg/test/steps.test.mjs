import assert from "node:assert/strict";
import { test } from "node:test";
import { canned } from "./canned.mjs";
import { NOW, bytes, csv, fixture, light, manifest, model, round } from "./light.mjs";

const join = () => new light.Task(manifest, fixture.task);

function sealed(seed = 7n, report = undefined) {
  const work = join().contribute(round, model, NOW);
  const steps = { read: work.read(bytes(csv())), epochs: [] };
  steps.trained = work.train(seed, (epoch, epochs, loss) => steps.epochs.push({ epoch, epochs, loss }));
  steps.split = work.split(NOW, report);
  steps.bytes = work.seal();
  return { work, ...steps };
}

function thrown(act) {
  try {
    act();
  } catch (error) {
    return error;
  }
  assert.fail("nothing was thrown");
}

test("a contribution is read, trained, split and sealed", () => {
  const done = sealed();
  assert.deepEqual(done.read, { rows: 75, bytes: csv().length });
  assert.deepEqual(done.epochs.map((at) => at.epoch), [1, 2, 3, 4, 5]);
  assert.ok(done.epochs.every((at) => at.epochs === 5 && at.loss > 0));
  assert.equal(done.trained.bytes, 4 * fixture.dimension);
  // The update is cut to the task's bound, which nearly every one fills.
  assert.equal(done.trained.clipped, true);
  assert.ok(done.trained.lossAfter < 0.7 * done.trained.lossBefore, `${done.trained.lossAfter} of ${done.trained.lossBefore}`);
  assert.ok(done.trained.norm > 0);
  assert.equal(typeof done.trained.clipped, "boolean");
  assert.match(done.split.report, /^[A-Za-z0-9_-]{22}$/);
  assert.ok(done.bytes.length > done.split.bytes, "sealing adds tags and keys");
  assert.deepEqual([done.work.round, done.work.deadlineMs], [1, fixture.deadlineMs]);
});

test("the same rows and seed give the same training, and never the same report", () => {
  const [one, two] = [sealed(), sealed()];
  assert.deepEqual(one.trained, two.trained);
  assert.notEqual(one.split.report, two.split.report);
  assert.equal(one.bytes.length, two.bytes.length);
  const same = one.bytes.filter((byte, at) => byte === two.bytes[at]).length;
  assert.ok(same < one.bytes.length / 50, `${same} of ${one.bytes.length} bytes are the same`);
});

test("the report's id decides its committee, which is any but those whose leader was tried in vain", () => {
  const [first, second, third] = fixture.members;
  const draw = (failed) => {
    const [report, leader] = join().draw(round, NOW, failed);
    return { report, leader };
  };
  const { report, leader } = draw([]);
  const split = sealed(7n, report).split;
  assert.deepEqual([split.report, split.leader], [report, leader]);
  assert.equal(split.mediaType, "application/dap-report");
  assert.equal(leader, fixture.members[Number(split.leaderName.at(-1)) - 1]);
  assert.equal(split.helperNames.length, 1);
  assert.notEqual(split.helperNames[0], split.leaderName);
  const leaders = (failed) => {
    const seen = new Set();
    for (let turn = 0; turn < 60; turn += 1) seen.add(draw(failed).leader);
    return [...seen].sort();
  };
  assert.deepEqual(leaders([]), [first, second, third].sort());
  assert.deepEqual(leaders([first]), [second, third].sort());
  assert.deepEqual(leaders([first, third]), [second]);
  // With all of them away it is any, and waits there.
  assert.deepEqual(leaders([first, second, third]), [first, second, third].sort());
  assert.equal(thrown(() => sealed(7n, "no id")).code, "malformed");
});

test("a task of three shares has reports for three, of their own media type", () => {
  const { task, manifest: signed, round: opened } = fixture.three;
  const work = new light.Task(JSON.stringify(signed), task).contribute(JSON.stringify(opened), model, NOW);
  work.read(bytes(csv()));
  work.train(7n, () => {});
  const { leaderName, helperNames, mediaType, bytes: shares } = work.split(NOW);
  assert.deepEqual([leaderName, ...helperNames].sort(), ["full-1", "full-2", "full-3"]);
  assert.equal(mediaType, "application/vnd.defim-report");
  const report = work.seal();
  const two = sealed();
  assert.ok(report.length > shares);
  // A third share is a few seeds: what it adds does not depend on the model.
  assert.ok(report.length > two.bytes.length && report.length < two.bytes.length + 400);
});

test("the task is the manifest's", () => {
  assert.equal(join().id, fixture.task);
});

test("another task's manifest is refused", () => {
  const error = thrown(() => new light.Task(manifest, "A".repeat(43)));
  assert.equal(error.code, "wrong-task");
  assert.match(error.message, /AAAA/);
  assert.equal(thrown(() => new light.Task(manifest, "no id")).code, "wrong-task");
  assert.equal(thrown(() => new light.Task("{}", undefined)).code, "malformed");
});

test("a manifest that was changed after it was signed is refused", () => {
  const changed = { ...fixture.manifest, payload: fixture.manifest.payload.replace('"min_batch":3', '"min_batch":2') };
  assert.equal(thrown(() => new light.Task(JSON.stringify(changed), fixture.task)).code, "wrong-task");
  assert.equal(thrown(() => new light.Task(JSON.stringify(changed), undefined)).code, "bad-manifest");
});

test("a model that was changed is refused before it is read", () => {
  const changed = model.slice();
  changed[changed.length - 1] ^= 1;
  const error = thrown(() => join().contribute(round, changed, NOW));
  assert.equal(error.code, "wrong-model");
  assert.match(error.message, /was not used/);
});

test("a round that is over, or that somebody else signed, is refused", () => {
  assert.equal(thrown(() => join().contribute(round, model, fixture.deadlineMs + 1)).code, "too-late");
  const forged = { ...fixture.round, payload: fixture.round.payload.replace('"round":1', '"round":2') };
  assert.equal(thrown(() => join().contribute(JSON.stringify(forged), model, NOW)).code, "bad-round");
});

test("a bad cell is named by row and column, in the check and in the contribution", () => {
  const lines = csv(5).split("\n");
  lines[3] = lines[3].replace(/^[^,]*,[^,]*,/, "0,NaN,");
  const bad = bytes(lines.join("\n"));
  const error = thrown(() => join().contribute(round, model, NOW).read(bad));
  assert.equal(error.code, "bad-data");
  assert.equal(error.problems.length, 1);
  assert.deepEqual([error.problems[0].row, error.problems[0].line, error.problems[0].column], [3, 4, "p1"]);
  assert.match(error.problems[0].message, /not a finite number/);
  assert.deepEqual(join().check(bad), { rows: 0, errors: error.problems });
});

test("a file without the right header has one problem without a row", () => {
  const { rows, errors } = join().check(bytes("a,b\n1,2\n"));
  assert.equal(rows, 0);
  assert.deepEqual([errors.length, errors[0].row, errors[0].column], [1, null, null]);
  assert.match(errors[0].message, /missing the columns "p0"/);
  assert.deepEqual(join().check(bytes(csv(12))), { rows: 12, errors: [] });
});

test("steps run once and in order", () => {
  const work = join().contribute(round, model, NOW);
  assert.equal(thrown(() => work.seal()).code, "out-of-order");
  const done = sealed().work;
  assert.equal(thrown(() => done.seal()).code, "out-of-order");
});

test("bad rows can be replaced by good ones in the same contribution", () => {
  const work = join().contribute(round, model, NOW);
  assert.equal(thrown(() => work.read(bytes("a\n1\n"))).code, "bad-data");
  assert.equal(work.read(bytes(csv(12))).rows, 12);
});

const enrolled = () => new light.Task(JSON.stringify(fixture.enrolled.manifest), fixture.enrolled.task);
const seed = new Uint8Array(32).fill(5);

function signedBy(key, training = 7n) {
  const work = enrolled().contribute(JSON.stringify(fixture.enrolled.round), model, NOW, key);
  work.read(bytes(csv()));
  work.train(training, () => {});
  const split = work.split(NOW);
  return { ...split, sealed: work.seal() };
}

test("where light nodes are enrolled, the key decides id and committee", () => {
  assert.deepEqual([enrolled().admission, join().admission], ["invite", undefined]);
  const [one, two, other] = [signedBy(seed), signedBy(seed, 8n), signedBy(new Uint8Array(32).fill(6))];
  assert.equal(one.report, two.report, "once a round, whatever is drawn");
  assert.equal(one.leader, two.leader);
  assert.notEqual(one.report, other.report);
  assert.equal(thrown(() => signedBy(undefined)).code, "no-key");
  assert.equal(thrown(() => signedBy(new Uint8Array(31))).code, "bad-key");
  // In a task of anybody a key is not used, and makes the report no longer: nobody learns of it.
  const work = join().contribute(round, model, NOW, seed);
  work.read(bytes(csv()));
  work.train(7n, () => {});
  work.split(NOW);
  assert.equal(work.seal().length, sealed().bytes.length);
  assert.ok(one.sealed.length > sealed().bytes.length);
});

test("keys are made of the browser's randomness, and sign what the ledger is asked for", () => {
  const one = light.newSeed();
  assert.equal(one.length, 32);
  assert.notDeepEqual(one, light.newSeed());
  const key = light.publicKey(one);
  assert.match(key, /^[A-Za-z0-9_-]{43}$/);
  const [task, chain, code] = [enrolled(), "A".repeat(43), "3K7QM-ZZZZZ-00000-11111-ABCDEF"];
  const asked = Buffer.from(task.enrol(one, chain, 0, code));
  const parts = [key, fixture.enrolled.task].map((id) => Buffer.from(id, "base64url"));
  assert.ok(parts.every((part) => asked.includes(part)));
  assert.notDeepEqual(Buffer.from(task.enrol(one, chain, 1, code)), asked, "no transaction is carried out twice");
  assert.deepEqual(Buffer.from(task.enrol(one, chain, 0, " 3k7qmzzzzzooooolllllabcdef\n")), asked, "as people type it");
  assert.notDeepEqual(Buffer.from(task.enrol(one, chain, 0, code.replace("F", "E"))), asked);
  assert.equal(thrown(() => task.enrol(one, chain, 0)).code, "bad-enrolment");
  const typo = thrown(() => task.enrol(one, chain, 0, "no code"));
  assert.deepEqual([typo.code, /26 letters and digits, and here are 6/.test(typo.message)], ["bad-enrolment", true], typo.message);
  assert.equal(thrown(() => task.enrol(one, "no chain", 0, code)).code, "bad-enrolment");
  assert.equal(thrown(() => light.publicKey(new Uint8Array(3))).code, "bad-key");
  assert.equal(thrown(() => light.claimReward(one, chain, 0, new Uint8Array(9), "A".repeat(22))).code, "bad-enrolment");
  const receipt = Buffer.from(canned.receipt.receipt, "base64url");
  const claim = (nonce) => Buffer.from(light.claimReward(one, chain, nonce, receipt, canned.receipt.report));
  const told = [key, canned.task, canned.receipt.report].map((id) => Buffer.from(id, "base64url"));
  assert.ok(told.every((part) => claim(4).includes(part)));
  assert.notDeepEqual(claim(5), claim(4));
});

// Enrolling from a page: with an invite, by an admin's approval, and by oneself.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { ContributePage, browser } from "../lib/browser.mjs";
import { Mesh, digits } from "../lib/mesh.mjs";

async function start(t, options) {
  const mesh = await Mesh.start(options);
  t.after(() => mesh.stop());
  const chromium = await browser();
  t.after(() => chromium.close());
  const open = async (permissions = []) => ContributePage.open(await chromium.newContext({ permissions }), mesh.url);
  return { mesh, open };
}

const stands = (page, state) => page.has("enrolment", "data-state", state);

/** Nobody is offered to contribute, and why. */
async function mayNot(page, why) {
  assert.ok(await page.page.locator("#contribute button").isDisabled());
  await page.page.locator("#send-hint").filter({ hasText: why }).waitFor();
}

test("with an invite's code a person enrols, contributes and is counted", { timeout: 300_000 }, async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "defim-rows-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const { mesh, open } = await start(t, { admission: "invite", minBatch: 3 });
  const page = await open();
  await stands(page, "none");
  await page.useSample();
  await mayNot(page, "Enrol first");
  await page.shoot("enrol-invite");

  // Without a code, with none that is one, and with one that nobody has made.
  const field = page.at("invite-code");
  const refused = async (code, why) => {
    await field.fill(code);
    await field.press("Enter");
    await page.at("enrol-error").filter({ hasText: why }).waitFor();
    assert.equal(await field.getAttribute("aria-invalid"), "true");
    assert.equal(await field.inputValue(), code, "what was typed stays, to be mended");
  };
  await refused("", /Type or paste the code/);
  await refused("3K7QM", /26 letters and digits, and here are 5/);
  await refused("00000-00000-00000-00000-000000", /code does not fit/);
  await page.shoot("enrol-refused");
  await mayNot(page, "Enrol first");

  const { code } = await mesh.admin("task", "invite", "digits", "--uses", 3);
  await field.fill(` ${code.toLowerCase().replaceAll("-", " ")} `);
  await field.press("Enter");
  await stands(page, "enrolled");
  assert.match(await page.text("enrol-state"), /Enrolled\. Verified in this browser: block \d+, signed by validator-.* of 4; /);
  assert.equal(await page.page.evaluate(() => document.activeElement.id), "enrol-state", "the form is gone, the focus is not lost");
  const key = await page.text("enrol-key");
  assert.deepEqual((await mesh.command("task", "enrolled", "digits")).keys, [key]);
  await page.shoot("enrol-enrolled");

  // It is kept, and found again.
  await page.page.reload();
  await stands(page, "enrolled");
  assert.equal(await page.text("enrol-key"), key);
  await page.useSample();
  await page.contribute();
  await page.reaches("sent");
  const others = [1, 2].map(async (i) => mesh.contribute({ data: await digits(folder, 100 * i, 100 * i + 100), invite: code }));
  const [[other]] = await Promise.all(others);
  assert.equal(other.counted.reports, 3);
  await page.reaches("counted");
  await page.has("receipt", "data-state", "right");
  await page.shoot("enrol-counted");

  // A fourth one comes too late.
  const late = await open();
  await late.at("invite-code").fill(code);
  await late.at("enrol").click();
  await late.at("enrol-error").filter({ hasText: /used up/ }).waitFor();
  for (const one of [page, late]) assert.deepEqual(one.errors, []);
});

test("a key that an admin lets in is noticed by the page, and counted; one that is removed is told so", { timeout: 300_000 }, async (t) => {
  const { mesh, open } = await start(t, { admission: "approved", minBatch: 2 });
  const pages = [];
  for (const _ of [1, 2]) {
    const page = await open(["clipboard-read", "clipboard-write"]);
    await stands(page, "none");
    await page.at("enrol").click();
    await stands(page, "waiting");
    pages.push(page);
  }
  const [one, two] = pages;
  await one.useSample();
  await mayNot(one, "waits for an administrator");
  const key = await one.text("enrol-key");
  await one.at("copy-key").click();
  await one.at("copied").filter({ hasText: "Copied" }).waitFor();
  assert.equal(await one.page.evaluate(() => navigator.clipboard.readText()), key);
  await one.shoot("enrol-waiting");
  // What waits is still the same key on the next visit.
  await two.page.reload();
  await stands(two, "waiting");

  for (const page of pages) await mesh.admin("task", "approve", "digits", await page.text("enrol-key"));
  await two.useSample();
  for (const page of pages) {
    await stands(page, "enrolled");
    await page.contribute();
  }
  for (const page of pages) {
    await page.reaches("counted");
    await page.has("receipt", "data-state", "right");
  }
  const { history } = await mesh.get("/tasks/digits");
  assert.equal(history[0].reports, 2);

  await mesh.admin("task", "revoke", "digits", key);
  await stands(one, "removed");
  await mayNot(one, "has removed this browser's key");
  await one.shoot("enrol-removed");
  assert.equal(await two.attribute("enrolment", "data-state"), "enrolled");
  for (const page of pages) assert.deepEqual(page.errors, []);
});

test("where anybody enrols it is one press, and where nobody does nothing is offered", { timeout: 300_000 }, async (t) => {
  const { mesh, open } = await start(t, { admission: "open", minBatch: 2 });
  await mesh.createLargeTask("plain", 16);
  const page = await open();
  await page.at("task-digits").click();
  await stands(page, "none");
  await page.shoot("enrol-open");
  await page.at("enrol").click();
  await stands(page, "enrolled");
  await page.at("task-plain").click();
  await page.at("enrolment").waitFor({ state: "detached" });
  await page.page.getByText("nobody checks who takes part").waitFor();
  assert.equal(await page.at("points").count(), 0);
  assert.deepEqual(page.errors, []);
});

test("who was counted claims the points with one press, and is paid once", { timeout: 300_000 }, async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "defim-rows-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const { mesh, open } = await start(t, { admission: "open", minBatch: 2 });
  const page = await open();
  await page.at("enrol").click();
  await stands(page, "enrolled");
  assert.equal(await page.at("points").isVisible(), false, "nothing is earned yet");
  let from = 0;
  const round = async () => {
    await page.useSample();
    await page.page.locator("#contribute button:enabled").click();
    await page.reaches("sent");
    const [other] = await mesh.contribute({ data: await digits(folder, from, (from += 100)), own: true });
    await page.reaches("counted");
    await page.has("receipt", "data-state", "right");
    return other.counted.round;
  };
  const told = () => page.text("points-told");
  const number = (text) => Number(text.replaceAll(",", ""));
  const balance = async () => (await mesh.command("account", "show", await page.text("enrol-key"))).balance;

  const first = await round();
  await page.has("points", "data-state", "owed");
  const [, owed] = /key has 0 points, and ([\d,]+) to claim for round \d+\. Proven in this browser under block/.exec(await told());
  const perReport = await page.page.evaluate(async (round) => {
    const { joinMesh } = await import("/light/dist/index.js");
    return (await (await joinMesh()).ledgerRound("digits", round)).perReport;
  }, first);
  assert.equal(number(owed), perReport);
  assert.equal(await page.text("claim"), `Claim ${owed} points`);
  assert.equal(await balance(), 0, "nothing is claimed by itself");
  await page.shoot("claim-owed");

  await page.at("claim").click();
  await page.has("points", "data-state", "paid");
  const said = `${owed} points claimed for round ${first}. This browser's key had 0 points and has ${owed} now.`;
  assert.ok((await told()).includes(said), await told());
  assert.equal(await page.at("claim").isVisible(), false);
  await page.page.waitForFunction(() => document.activeElement.id === "points-told", null, { timeout: 5_000 });
  assert.equal(await balance(), perReport);
  await page.shoot("claim-paid");
  await page.page.reload();
  await page.has("points", "data-state", "has");
  assert.match(await told(), new RegExp(`key has ${owed} points\\. Proven`));
  assert.equal(await page.at("claim").isVisible(), false);

  // Two rounds with one press.
  await round();
  await page.has("points", "data-state", "owed");
  await round();
  await page.at("points-told").filter({ hasText: /to claim for rounds \d+, \d+/ }).waitFor();
  const [, more] = /and ([\d,]+) to claim/.exec(await told());
  await page.at("claim").click();
  await page.has("points", "data-state", "paid");
  assert.equal(await balance(), perReport + number(more));
  await page.page.reload();
  await page.has("points", "data-state", "has");
  assert.equal(await page.at("claim").isVisible(), false);
  assert.deepEqual(page.errors, []);
});

// Chromium, and the Contribute page as a person uses it.
import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";

import { chromium } from "playwright-core";

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
const ARTEFACTS = fileURLToPath(new URL("../artefacts/", import.meta.url));

/** Long enough for a busy machine; nothing here measures time. */
export const PATIENCE = 90_000;

/** A browser with a fresh profile. */
export function browser(...more) {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    args: [...FLAGS, ...more],
  });
}

export class ContributePage {
  /** What went wrong inside the page. */
  errors = [];

  static async open(context, url) {
    const self = new ContributePage();
    self.page = await context.newPage();
    self.page.setDefaultTimeout(PATIENCE);
    self.page.on("pageerror", ({ message }) => self.errors.push(message));
    await self.page.goto(url);
    return self;
  }

  at(testid) {
    return this.page.getByTestId(testid);
  }

  /** Waits until an attribute has a value. */
  async has(testid, attribute, value) {
    await this.page.locator(`[data-testid="${testid}"][${attribute}="${value}"]`).waitFor({ state: "attached" });
  }

  async useSample() {
    await this.at("data-sample").click();
    await this.at("preview").waitFor();
  }

  /** Presses the button as soon as it can be pressed. */
  async contribute(again = false) {
    const button = this.page.locator(`[data-testid="${again ? "contribute-again" : "contribute"}"]:enabled`);
    await this.#orError(button);
    await button.click();
  }

  /** Until a station is done; an error on the page ends the waiting with its text. */
  async reaches(step) {
    await this.#orError(this.page.locator(`[data-testid="step-${step}"][data-state="done"]`));
  }

  async #orError(wanted) {
    const error = this.at("error");
    await wanted.or(error).first().waitFor();
    if ((await wanted.count()) === 0) assert.fail(`the page says: ${await error.first().innerText()}`);
  }

  attribute(testid, name) {
    return this.at(testid).getAttribute(name);
  }

  text(testid) {
    return this.at(testid).innerText();
  }

  /** Pictures in both themes at the narrowest and the usual width. */
  async shoot(name) {
    await mkdir(ARTEFACTS, { recursive: true });
    for (const colorScheme of ["light", "dark"]) {
      await this.page.emulateMedia({ colorScheme });
      for (const width of [360, 1440]) {
        await this.page.setViewportSize({ width, height: 900 });
        const wide = await this.page.evaluate(() => document.documentElement.scrollWidth);
        assert.ok(wide <= width, `${name} is ${wide} px wide in a window of ${width}`);
        await this.page.evaluate(() => scrollTo(0, 0));
        await this.page.screenshot({ path: `${ARTEFACTS}${name}-${colorScheme}-${width}.png`, fullPage: true });
      }
    }
  }
}

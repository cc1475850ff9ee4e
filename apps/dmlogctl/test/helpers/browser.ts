import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { type BrowserContext, chromium, type Page } from 'playwright-core';

const EXECUTABLE = '/usr/bin/chromium';
const PICTURES = process.env['DMLOG_PAGE_PICTURES'];
/** For whatever a page is waited for. */
const BOUND_MS = 60_000;

/** Whether tests of pages can run; always true where they must (CI). Says so where they are left out. */
export function browserUsable(): boolean {
  if (process.env['CI'] !== undefined || spawnSync(EXECUTABLE, ['--version']).status === 0) return true;
  console.warn(
    `NOT TESTED: the status page, as there is no ${EXECUTABLE} (Debian: apt-get install chromium)`,
  );
  return false;
}

/** A headless Chromium with a profile of its own. */
export class Browser {
  readonly #context: BrowserContext;
  readonly #profile: string;

  private constructor(context: BrowserContext, profile: string) {
    this.#context = context;
    this.#profile = profile;
  }

  static async start(): Promise<Browser> {
    const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'dmlog-page-'));
    const context = await chromium.launchPersistentContext(profile, {
      executablePath: EXECUTABLE,
      headless: true,
      viewport: { width: 1100, height: 900 },
      args: [
        '--no-sandbox',
        '--disable-gpu',
        '--disable-quic',
        '--no-first-run',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync',
      ],
    });
    return new Browser(context, profile);
  }

  /** The status page at this port of the loopback; `errors` grows by what goes wrong in it. */
  async open(port: number): Promise<{ page: Page; errors: string[] }> {
    const page = await this.#context.newPage();
    page.setDefaultTimeout(BOUND_MS);
    const errors: string[] = [];
    page.on('pageerror', (error) => errors.push(String(error)));
    page.on('console', (message) => {
      if (message.type() === 'error') errors.push(message.text());
    });
    await page.goto(`http://127.0.0.1:${port}/`);
    return { page, errors };
  }

  async close(): Promise<void> {
    await this.#context.close();
    fs.rmSync(this.#profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** Keeps what the page looks like in the directory DMLOG_PAGE_PICTURES, where one is named. */
export async function picture(page: Page, name: string): Promise<void> {
  if (PICTURES !== undefined)
    await page.screenshot({ path: path.join(PICTURES, `${name}.png`), fullPage: true });
}

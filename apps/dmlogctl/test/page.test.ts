import { RequestType as R } from '@dmlog/protocol';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Browser, browserUsable, picture } from './helpers/browser.js';
import { TestDaemon } from './helpers/daemon.js';

/** The status page of a daemon, in a browser. Set DMLOG_PAGE_PICTURES to a directory to keep what it looked like. */
const REGIONS = 2 ** 26;

describe.skipIf(!browserUsable())('the status page', () => {
  let browser: Browser | undefined;

  beforeAll(async () => {
    browser = await Browser.start();
  }, 120_000);

  afterAll(() => browser?.close());

  /** A daemon with a large log and a small one, and its page. */
  async function open(): Promise<{ daemon: TestDaemon; page: Page; errors: string[] }> {
    const daemon = await TestDaemon.start({ http: '127.0.0.1:0' });
    await daemon.resume('u-large-one', `${2 * REGIONS} core 2 nosync`);
    await daemon.resume('u-2', '65536 core 1024');
    const { page, errors } = await (browser as Browser).open(daemon.httpPort);
    await page.waitForFunction(() => document.querySelectorAll('#logs tbody tr').length === 2);
    // From here on it is told of whatever happens.
    await page.waitForFunction(() => document.querySelectorAll('#events li').length >= 2);
    return { daemon, page, errors };
  }

  const rangeShows = (page: Page, text: string) =>
    page.waitForFunction((wanted) => document.getElementById('range')?.textContent?.includes(wanted), text);

  it('shows logs, a map, requests and events, and zooms into 2^26 regions by keyboard', async () => {
    const { daemon, page, errors } = await open();
    await daemon.ask('u-large-one', R.MARK_REGION, [REGIONS / 2 + 5]);
    await daemon.ask('u-large-one', R.SET_REGION_SYNC, [7, 0]);
    await page.click('#logs tbody tr:has-text("u-large-one")');
    await rangeShows(page, 'regions 0 to 67,108,863 of 67,108,864');
    await rangeShows(page, '1 dirty, 1 out of sync');
    await page.waitForFunction(() => document.getElementById('events')?.textContent?.includes('out-of-sync'));
    await page.waitForFunction(() =>
      document.getElementById('requests')?.textContent?.includes('MARK_REGION'),
    );
    await picture(page, 'light');

    // Each + halves what is seen, about its middle.
    await page.keyboard.press('+');
    await rangeShows(page, 'regions 16,777,216 to 50,331,647');
    for (let i = 0; i < 16; i++) await page.keyboard.press('+');
    // On its way the page shows wider maps, some of them with one region in a cell too.
    await page.waitForFunction(() => document.getElementById('map')?.getAttribute('data-cells') === '512');
    await rangeShows(page, '1 in a cell; 1 dirty, 0 out of sync');
    await picture(page, 'zoomed');
    await page.keyboard.press('ArrowRight');
    await rangeShows(page, 'regions 33,554,432 to 33,554,943');
    await page.keyboard.press('-');
    await page.keyboard.press('0');
    await rangeShows(page, 'regions 0 to 67,108,863');
    // The other log by keyboard, wherever it stands in the table.
    const before = await page.textContent('#range');
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('ArrowDown');
    const down = await page.textContent('#logs tr[aria-selected="true"]');
    await page.keyboard.press('ArrowUp');
    await page.keyboard.press('ArrowUp');
    await page.waitForFunction(
      (was) => document.querySelector('#logs tr[aria-selected="true"]')?.textContent !== was,
      down,
    );
    expect(before).not.toBeNull();
    expect(errors).toEqual([]);
    await page.close();
  });

  it('follows the dark mode of the system, and text of a table never becomes markup', async () => {
    const { daemon, page, errors } = await open();
    await daemon.resume('<img/src=x/onerror=alert(1)>', '65536 core 1024');
    await page.waitForFunction(() => document.getElementById('logs')?.textContent?.includes('<img/src=x'));
    expect(await page.locator('#logs img').count()).toBe(0);
    const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    await page.emulateMedia({ colorScheme: 'light' });
    const light = await background();
    await page.emulateMedia({ colorScheme: 'dark' });
    expect(await background()).not.toBe(light);
    await rangeShows(page, 'regions 0 to');
    await picture(page, 'dark');
    await page.setViewportSize({ width: 420, height: 800 });
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(420);
    await picture(page, 'narrow');
    expect(errors).toEqual([]);
    await page.close();
  });

  it('says when the daemon does not answer any more', async () => {
    const { daemon, page } = await open();
    await daemon.closeHttp();
    await page.waitForFunction(() =>
      document.getElementById('daemon')?.textContent?.includes('does not answer'),
    );
    await page.close();
  });
});

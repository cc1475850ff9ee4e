import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { daemonMetrics, type Operable } from '../src/index.js';
import { addMemoryMetrics } from '../src/memory-metrics.js';
import { Kernel, log } from './kernel.js';

const docs = path.resolve(import.meta.dirname, '../../../docs');
const read = (file: string): string => fs.readFileSync(path.join(docs, file), 'utf8');

/** Names of metrics in a text, without the suffixes of histograms. */
const namesIn = (text: string): Set<string> =>
  new Set(
    [...text.matchAll(/\bdmlog_[a-z_]+\b/g)]
      .map(([name]) => name.replace(/_(bucket|sum|count)$/, ''))
      .filter((name) => !name.endsWith('_')),
  );

async function served(): Promise<Set<string>> {
  const kernel = await Kernel.start();
  await kernel.resume(log('u', 1), '16384 core 1024');
  const metrics = daemonMetrics(() => kernel.daemon.status(), kernel.daemon.operable as Operable);
  addMemoryMetrics(metrics, { collections: 0, seconds: 0, longestSeconds: 0, close: () => {} });
  const text = await metrics.text();
  await kernel.daemon.stop('test ends');
  return new Set([...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name as string));
}

describe('dashboard, alerts and page of the metrics', () => {
  it('name only metrics that there are, and the page names all of them', async () => {
    const known = await served();
    const monitoring = ['monitoring/grafana-dashboard.json', 'monitoring/alerts.yml'];
    for (const file of [...monitoring, 'metrics.md', 'operations.md']) {
      const unknown = [...namesIn(read(file))].filter((name) => !known.has(name));
      expect(unknown, file).toEqual([]);
    }
    const page = namesIn(read('metrics.md'));
    const unnamed = [...known].filter((name) => !page.has(name) && !name.startsWith('dmlog_transport_'));
    expect(unnamed).toEqual([]);
  });

  it('each alert names a section that there is', () => {
    // What the alert is called is what the section is called.
    const alerts = [
      ...read('monitoring/alerts.yml').matchAll(/- alert: (\w+)[\s\S]*?runbook: docs\/(\S+)#(\S+)/g),
    ];
    expect(alerts.length).toBe([...read('monitoring/alerts.yml').matchAll(/- alert:/g)].length);
    for (const [, alert, file, anchor] of alerts) {
      const anchors = [...read(file as string).matchAll(/^#+ (.+)$/gm)].map(([, title]) =>
        (title as string)
          .toLowerCase()
          .replace(/[^a-z0-9 -]/g, '')
          .replaceAll(' ', '-'),
      );
      expect(file, alert).toBe('operations.md');
      expect(anchor, alert).toBe((alert as string).toLowerCase());
      expect(anchors, alert).toContain(anchor);
    }
  });
});

import { PerformanceObserver } from 'node:perf_hooks';
import { getHeapStatistics } from 'node:v8';
import type { Metrics } from './metrics.js';

/** Totals of garbage collection since the observer was made. */
export interface PauseTotals {
  readonly collections: number;
  readonly seconds: number;
  readonly longestSeconds: number;
  close(): void;
}

/** Watches garbage collections: nothing is done between them, and some microseconds after each. */
export function observePauses(): PauseTotals {
  const totals = { collections: 0, seconds: 0, longestSeconds: 0, close: () => observer.disconnect() };
  const observer = new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) {
      totals.collections++;
      totals.seconds += duration / 1000;
      totals.longestSeconds = Math.max(totals.longestSeconds, duration / 1000);
    }
  });
  observer.observe({ entryTypes: ['gc'] });
  return totals;
}

/** What memory costs a daemon in time, and what it has taken from the system for its heap. */
export function addMemoryMetrics(metrics: Metrics, pauses: PauseTotals): void {
  metrics.gauge('dmlog_heap_total_bytes', 'Heap of the engine, taken from the system.', () => {
    return getHeapStatistics().total_heap_size;
  });
  metrics.counter('dmlog_gc_total', 'Garbage collections.', () => pauses.collections);
  metrics.counter('dmlog_gc_pause_seconds_total', 'Time stopped by them.', () => pauses.seconds);
  metrics.gauge('dmlog_gc_pause_longest_seconds', 'The longest of them.', () => pauses.longestSeconds);
}

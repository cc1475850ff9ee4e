import { defineConfig } from 'vitest/config';

/**
 * Timeouts are for tests that hang, not for machines that are busy. Tests run against the sources of every workspace package, never against a stale build.
 */
export function packageTests(test = {}) {
  const conditions = ['dmlog-source', 'node', 'import', 'module', 'default'];
  return defineConfig({
    resolve: { conditions },
    ssr: { resolve: { conditions, externalConditions: conditions } },
    test: { include: ['test/**/*.test.ts'], passWithNoTests: false, testTimeout: 60_000, ...test },
  });
}

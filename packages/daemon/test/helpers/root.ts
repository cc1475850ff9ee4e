import { describe } from 'vitest';

/** `describe` of what only root can try: skipped loudly for others, failing there under CI=true. */
export const describeAsRoot = ((): typeof describe | typeof describe.skip => {
  if (process.getuid?.() === 0) return describe;
  const text = 'these tests must be run as root';
  const { CI } = process.env;
  if (CI === 'true') throw new Error(text);
  console.warn(`SKIPPED: ${text}`);
  return describe.skip;
})();

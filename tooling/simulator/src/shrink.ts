import type { Order, Report } from './orders.js';

/**
 * The shortest list of steps that still breaks the same invariant: chunks are taken out, halves first, until no step can be spared or `runsMax` runs were made. Each
 * step draws from a stream of its own, so what is left does as it did.
 */
export async function shrink(
  failed: Report,
  run: (order: Order) => Promise<Report>,
  options: { readonly runsMax: number; readonly onProgress: (steps: number, runs: number) => void },
): Promise<{ readonly last: number; readonly steps: readonly number[]; readonly report: Report }> {
  if (failed.failure === null) throw new Error(`seed ${failed.seed} does not fail`);
  const { invariant } = failed.failure;
  // After the last step with faults comes the healing, which is not part of the list.
  const last = Math.min(failed.failure.step, failed.stepsWithFaults);
  let steps = Array.from({ length: last }, (_, i) => i + 1);
  let report = failed;
  let runs = 0;
  const fails = async (only: readonly number[]): Promise<boolean> => {
    runs++;
    const one = await run({ seed: failed.seed, steps: last, only, trace: false });
    if (one.failure?.invariant !== invariant) return false;
    report = one;
    return true;
  };
  if (!(await fails(steps))) throw new Error('the failure does not come again: the run is not deterministic');
  for (
    let size = Math.ceil(steps.length / 2);
    size >= 1 && runs < options.runsMax;
    size = size === 1 ? 0 : Math.ceil(size / 2)
  ) {
    for (let from = 0; from < steps.length && runs < options.runsMax; ) {
      const without = [...steps.slice(0, from), ...steps.slice(from + size)];
      if (await fails(without)) steps = without;
      else from += size;
      options.onProgress(steps.length, runs);
    }
  }
  return { last, steps, report };
}

import { type Coverage, SITUATIONS } from './coverage.js';
import type { Report } from './orders.js';

/** One line, and how to see more. */
export function describeFailure({ seed, parameters, failure }: Report, commit: string): string {
  if (failure === null) return `seed ${seed}: nothing found`;
  const { invariant, step, node, region, message } = failure;
  const where = [
    `seed=${seed}`,
    `commit=${commit}`,
    `step=${step}`,
    ...(node === null ? [] : [`node=${node}`]),
    ...(region === null ? [] : [`region=${region}`]),
  ];
  return [
    `FAIL ${invariant} ${where.join(' ')}: ${message}`,
    `  ${parameters}`,
    `  the story: pnpm simulate --seed ${seed} --trace; the shortest one: pnpm simulate --seed ${seed} --shrink`,
  ].join('\n');
}

export function summary(
  totals: { runs: number; steps: number; requests: number; milliseconds: number },
  coverage: Coverage,
  seconds: number,
): string {
  const perSecond = Math.round((totals.requests / totals.milliseconds) * 1000);
  const lines = SITUATIONS.map((name) => `  ${String(coverage.counts[name]).padStart(9)}  ${name}`);
  return [
    ...lines,
    `${totals.runs} seeds, ${totals.steps} steps, ${totals.requests} requests in ${seconds.toFixed(1)} s; ${perSecond} requests a second on one thread`,
  ].join('\n');
}

/** `1-5,9` as numbers. Throws a RangeError. */
export function parseSteps(text: string): number[] {
  return text.split(',').flatMap((part) => {
    const [from, to = from] = part.split('-').map(Number) as [number, number?];
    if (!Number.isInteger(from) || !Number.isInteger(to))
      throw new RangeError(`"${part}" is no range of steps`);
    return Array.from({ length: (to as number) - from + 1 }, (_, i) => from + i);
  });
}

export function textOfSteps(steps: readonly number[]): string {
  const parts: string[] = [];
  for (let i = 0; i < steps.length; ) {
    let end = i;
    while (end + 1 < steps.length && steps[end + 1] === (steps[end] as number) + 1) end++;
    parts.push(end === i ? `${steps[i]}` : `${steps[i]}-${steps[end]}`);
    i = end + 1;
  }
  return parts.join(',');
}

import { parseArgs } from 'node:util';
import { BenchError, runBench, runHandOvers, runSteady, type SubjectName } from './index.js';

/** A day of seconds. */
const NUMBER_MAX = 86_400;

const USAGE = `usage: bench [--quick | --steady SECONDS | --hand-overs COUNT] [--check] [--subjects echo,transport,singled] [-- ARGUMENTS OF singled]
  --quick     below 40 s instead of below 3 minutes; rougher
  --steady    instead: one load of so many seconds on singled; tails of round trips, pauses, growth
  --hand-overs  instead: singled is succeeded so many times under load; the longest round trip
  --check     exit status 1 when a target is missed
  --subjects  only these (the echo is always played): "echo poll", transport, singled`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: 'boolean', default: false },
    steady: { type: 'string' },
    'hand-overs': { type: 'string' },
    check: { type: 'boolean', default: false },
    subjects: { type: 'string' },
    help: { type: 'boolean', short: 'h', default: false },
  },
});

/** A whole number of at least 1, or the end of the program. */
function wholeNumber(name: string, text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value > 0 && value <= NUMBER_MAX) return value;
  console.error(`--${name}: a whole number, 1 to ${NUMBER_MAX}`);
  process.exit(64);
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1)); // runs the exit hooks

if (values.help) {
  console.log(USAGE);
} else {
  try {
    const print = (text: string) => console.log(text);
    const { steady, 'hand-overs': handOvers } = values;
    const common = { singledArgs: positionals, print };
    const { verdicts } =
      steady !== undefined
        ? await runSteady({ ...common, seconds: wholeNumber('steady', steady) })
        : handOvers !== undefined
          ? await runHandOvers({ ...common, count: wholeNumber('hand-overs', handOvers) })
          : await runBench({
              ...common,
              quick: values.quick,
              ...(values.subjects === undefined
                ? {}
                : { subjects: values.subjects.split(',') as SubjectName[] }),
            });
    if (values.check && verdicts.some(({ passed }) => !passed)) process.exitCode = 1;
  } catch (error) {
    if (!(error instanceof BenchError)) throw error;
    console.error(`${error.code}: ${error.message}`);
    process.exitCode = 2;
  }
}

import { parseArgs } from 'node:util';
import { BenchError, renderVerdicts, runBench, runSteady, type SubjectName } from './index.js';

const STEADY_SECONDS_MAX = 86_400;

const USAGE = `usage: bench [--quick | --steady SECONDS] [--check] [--subjects echo,transport,singled] [-- ARGUMENTS OF singled]
  --quick     below 40 s instead of below 3 minutes; rougher
  --steady    instead: one load of so many seconds on singled; tails of round trips, pauses, growth
  --check     exit status 1 when a target is missed
  --subjects  only these (the echo is always played): "echo poll", transport, singled`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: 'boolean', default: false },
    steady: { type: 'string' },
    check: { type: 'boolean', default: false },
    subjects: { type: 'string' },
    help: { type: 'boolean', short: 'h', default: false },
  },
});

function secondsOf(text: string): number {
  const seconds = Number(text);
  if (Number.isInteger(seconds) && seconds > 0 && seconds <= STEADY_SECONDS_MAX) return seconds;
  console.error(`--steady: whole seconds, 1 to ${STEADY_SECONDS_MAX}`);
  process.exit(64);
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1)); // runs the exit hooks

if (values.help) {
  console.log(USAGE);
} else {
  try {
    const print = (text: string) => console.log(text);
    const { verdicts } = await (values.steady === undefined
      ? runBench({
          quick: values.quick,
          singledArgs: positionals,
          print,
          ...(values.subjects === undefined ? {} : { subjects: values.subjects.split(',') as SubjectName[] }),
        })
      : runSteady({ seconds: secondsOf(values.steady), singledArgs: positionals, print }));
    if (values.steady !== undefined) print(renderVerdicts(verdicts));
    if (values.check && verdicts.some(({ passed }) => !passed)) process.exitCode = 1;
  } catch (error) {
    if (!(error instanceof BenchError)) throw error;
    console.error(`${error.code}: ${error.message}`);
    process.exitCode = 2;
  }
}

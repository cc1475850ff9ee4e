import { parseArgs } from 'node:util';
import { BenchError, runBench, type SubjectName } from './index.js';

const USAGE = `usage: bench [--quick] [--check] [--subjects echo,transport,singled] [-- ARGUMENTS OF singled]
  --quick     below 40 s instead of below 3 minutes; rougher
  --check     exit status 1 when a target is missed
  --subjects  only these (the echo is always played): "echo poll", transport, singled`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: 'boolean', default: false },
    check: { type: 'boolean', default: false },
    subjects: { type: 'string' },
    help: { type: 'boolean', short: 'h', default: false },
  },
});

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1)); // runs the exit hooks

if (values.help) {
  console.log(USAGE);
} else {
  try {
    const { verdicts } = await runBench({
      quick: values.quick,
      singledArgs: positionals,
      print: (text) => console.log(text),
      ...(values.subjects === undefined ? {} : { subjects: values.subjects.split(',') as SubjectName[] }),
    });
    if (values.check && verdicts.some(({ passed }) => !passed)) process.exitCode = 1;
  } catch (error) {
    if (!(error instanceof BenchError)) throw error;
    console.error(`${error.code}: ${error.message}`);
    process.exitCode = 2;
  }
}

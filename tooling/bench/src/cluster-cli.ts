import { parseArgs } from 'node:util';
import { runClusterBench } from './cluster/bench.js';
import { BenchError } from './errors.js';

const USAGE = `usage: bench:cluster [--quick] [--check] [--unplaced]
  --quick     below 40 s instead of below 3 minutes; rougher
  --check     exit status 1 when a target is missed
  --unplaced  leave processors and priorities as they are (see README.md)`;

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    check: { type: 'boolean', default: false },
    unplaced: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
});

if (values.help) {
  console.log(USAGE);
} else {
  try {
    const { verdicts } = await runClusterBench({
      quick: values.quick,
      unplaced: values.unplaced,
      print: (text) => console.log(text),
    });
    if (values.check && verdicts.some(({ passed }) => !passed)) process.exitCode = 1;
  } catch (error) {
    if (!(error instanceof BenchError)) throw error;
    console.error(`${error.code}: ${error.message}`);
    process.exitCode = 2;
  }
}

/**
 * One member of a corosync group in a process of its own: commands as JSON lines on stdin, what it sees as JSON lines on stdout. Ends with stdin.
 * Argument: the group.
 */
import { createInterface } from 'node:readline';
import { corosyncGroup } from '../src/group/corosync.js';
import { type Command, Recorder } from './group-recorder.js';

/** Few, so that a flood meets the limit. */
const IN_FLIGHT_MESSAGES_MAX = 256;

const say = (line: object) => process.stdout.write(`${JSON.stringify(line)}\n`);

const lines = createInterface({ input: process.stdin });
lines.on('close', () => process.exit(0));
const recorder = new Recorder((event) => say({ event }));
try {
  const group = await corosyncGroup({ maxInFlightMessages: IN_FLIGHT_MESSAGES_MAX })(
    process.argv[2]!,
    recorder.handlers,
  );
  recorder.attach(group);
  say({ self: `${group.self.nodeId}.${group.self.pid}` });
  lines.on('line', (line) => recorder.do(JSON.parse(line) as Command));
} catch (error) {
  say({ failed: (error as Error).message });
  process.exit(1);
}

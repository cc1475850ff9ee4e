import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { build } from 'tsup';
import type { Participant } from './group-participants.js';
import type { Command, RecordedEvent } from './group-recorder.js';

type Line = { event: RecordedEvent } | { self: string } | { failed: string };

/**
 * Bundles group-child.ts from the sources, for a plain Node. It stands inside this package's node_modules, from where the bundle finds the binding.
 * Returns its path.
 */
export async function buildChild(): Promise<string> {
  const directory = fileURLToPath(new URL('../node_modules/.cache/group-child', import.meta.url));
  await build({
    entry: [fileURLToPath(new URL('group-child.ts', import.meta.url))],
    outDir: directory,
    format: 'esm',
    target: 'node20',
    splitting: false,
    config: false,
    silent: true,
  });
  return `${directory}/group-child.js`;
}

/** Starts a member with `command` (which may lead into a namespace first) and waits until it has joined. Rejects with the group's message. */
export async function startChild(
  command: readonly string[],
  nodeId: number,
  children: Set<ChildProcess>,
): Promise<Participant> {
  const child = spawn(command[0]!, command.slice(1), { stdio: ['pipe', 'pipe', 'inherit'] });
  children.add(child);
  child.once('exit', () => children.delete(child));
  // Writing to a member that was killed is no error of the test.
  child.stdin.on('error', () => {});
  const events: RecordedEvent[] = [];
  const self = await new Promise<string>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) => reject(new Error(`the member ended: ${code ?? signal}`)));
    createInterface({ input: child.stdout }).on('line', (text) => {
      const line = JSON.parse(text) as Line;
      if ('event' in line) events.push(line.event);
      else if ('self' in line) resolve(line.self);
      else reject(new Error(line.failed));
    });
  });
  return {
    nodeId,
    self,
    events,
    do: (instruction: Command) => void child.stdin.write(`${JSON.stringify(instruction)}\n`),
    kill: () => void child.kill('SIGKILL'),
  };
}

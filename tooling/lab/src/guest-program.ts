import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { GUEST_DIRECTORY } from './constants.js';
import { LabError } from './errors.js';
import { hostCommand } from './host-command.js';
import { cached } from './packages.js';

/** `guest/<name>.c`, compiled once for each version of its source: the path of the program, which guests see too. */
export async function guestProgram(name: string, libraries: readonly string[] = []): Promise<string> {
  const source = `${GUEST_DIRECTORY}/${name}.c`;
  const version = createHash('sha256').update(readFileSync(source)).digest('hex').slice(0, 12);
  const directory = await cached(`tools/${name}-${version}`, async (target) => {
    const result = await hostCommand('cc', ['-O1', '-o', `${target}/${name}`, source, ...libraries]);
    if (result.code !== 0)
      throw new LabError('ERR_LAB_HOST', `cc cannot compile ${source}:\n${result.output}`);
  });
  return `${directory}/${name}`;
}

import { readFileSync } from 'node:fs';

/** A bug to plant: `find` stands exactly once in `file` (from the root of the repository) and is exchanged for `replace`. */
export interface Mutation {
  readonly name: string;
  readonly file: string;
  readonly find: string;
  readonly replace: string;
  /** The fixed seeds do not find it: a hole in the simulation, told in docs/testing.md. */
  readonly survives?: true;
  /** A seed that found it: played first. */
  readonly seed?: number;
  /** Worlds that run this code. Default: all. */
  readonly on?: 'cluster' | 'one machine' | 'large disk log';
}

/** The source with the bug in it. Throws where the source is not what the bug was made for. */
export function mutate(source: string, { name, file, find, replace }: Mutation): string {
  const parts = source.split(find);
  if (parts.length !== 2)
    throw new Error(`planted bug "${name}": its line stands ${parts.length - 1} times in ${file}, not once`);
  return parts.join(replace);
}

export function mutatedFile(root: string, mutation: Mutation): string {
  return mutate(readFileSync(`${root}/${mutation.file}`, 'utf8'), mutation);
}

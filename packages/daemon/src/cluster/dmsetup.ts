import { execFile } from 'node:child_process';

/** A suspend waits for all I/O of the mirror; past this something is wrong that a person has to look at. */
const DMSETUP_MS_MAX = 60_000;

/** Runs `dmsetup` with these arguments and this standard input, and resolves with its standard output; rejects with what it said. */
export type Dmsetup = (args: readonly string[], input?: string) => Promise<string>;

export const dmsetup: Dmsetup = (args, input = '') =>
  new Promise((resolve, reject) => {
    const options = { timeout: DMSETUP_MS_MAX, killSignal: 'SIGKILL' } as const;
    const child = execFile('dmsetup', [...args], options, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new Error(`dmsetup ${args.join(' ')}: ${saidOf(stderr) || error.message}`));
    });
    // It may end without reading: its status tells.
    child.stdin?.on('error', () => {});
    child.stdin?.end(input);
  });

/** What went wrong, in one line: dmsetup says "Command failed." behind it. */
function saidOf(stderr: string): string {
  const lines = stderr.split('\n').map((line) => line.trim());
  return lines.filter((line) => line !== '' && line !== 'Command failed.').join('; ');
}

/** The mirrors of a log by its uuid, as `dmsetup table --target mirror` lists them: `name: 0 8192 mirror userspace 4 <uuid> …`. */
export function mirrorsOf(uuid: string, tables: string): { name: string; table: string }[] {
  return tables.split('\n').flatMap((line) => {
    const [, name, table] = /^(.*?): (\d+ \d+ mirror userspace .*)$/.exec(line) ?? [];
    if (name === undefined || table === undefined) return [];
    return table.split(' ')[5] === uuid ? [{ name, table }] : [];
  });
}

/**
 * Loads a mirror's own table again and exchanges it for the live one, in one step of the kernel: the mirror is never left suspended, whatever happens to this
 * process. False where somebody else is at work on the device: it is suspended, or another table waits in it.
 */
export async function reloadTable(
  run: Dmsetup,
  { name, table }: { name: string; table: string },
): Promise<boolean> {
  // "L--w": a live table, no inactive one, not suspended.
  const attributes = await run(['info', '-c', '--noheadings', '-o', 'attr', name]);
  if (!/^\s*L--/.test(attributes)) return false;
  await run(['load', name], `${table}\n`);
  await run(['resume', name]);
  return true;
}

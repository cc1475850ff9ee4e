import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { onTestFinished } from 'vitest';

/** A directory that is gone after the test. In the system's temporary directory, whose path is short enough for sockets. */
export function scratchDirectory(): string {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'dmlog-'));
  onTestFinished(() => fs.rmSync(directory, { recursive: true, force: true }));
  return directory;
}

export function scratchFile(bytes: number): string {
  const file = path.join(scratchDirectory(), 'image');
  fs.writeFileSync(file, Buffer.alloc(bytes, 0xee));
  return file;
}

/** Why loop devices cannot be used here, or null. Said once, loudly, by the tests that need one. */
export function loopProblem(): string | null {
  if (process.getuid?.() !== 0) return 'not root';
  try {
    execFileSync('losetup', ['--find'], { stdio: 'pipe' });
    return null;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** A loop device on a fresh file, detached after the test. */
export function loopDevice(bytes: number, ...options: string[]): string {
  const file = scratchFile(bytes);
  const device = execFileSync('losetup', ['--find', '--show', ...options, file], { encoding: 'utf8' }).trim();
  onTestFinished(() => {
    execFileSync('losetup', ['--detach', device]);
  });
  return device;
}

/** Calls a function that must reject, and returns what it rejected with. */
export async function rejection(run: () => Promise<unknown>): Promise<Error & { code: string }> {
  try {
    await run();
  } catch (error) {
    return error as Error & { code: string };
  }
  throw new Error('it did not fail');
}

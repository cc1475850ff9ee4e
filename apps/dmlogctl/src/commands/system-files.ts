import { readdirSync, readFileSync } from 'node:fs';

/** What a directory of /proc or /sys holds; nothing where it cannot be read. */
export function names(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

/** The text of a file of /proc or /sys, without the white space around it; empty where it cannot be read. */
export function read(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return '';
  }
}

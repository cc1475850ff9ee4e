/**
 * Plain file descriptors as promises. Not FileHandle: the hot path needs `fs.write` with a callback on the number itself, and a
 * FileHandle that is garbage collected closes the descriptor behind our back.
 */
import fs from 'node:fs';
import { promisify } from 'node:util';

export const openDescriptor: (path: string, flags: number) => Promise<number> = promisify(fs.open);
export const closeDescriptor: (fd: number) => Promise<void> = promisify(fs.close);
export const syncDescriptor: (fd: number) => Promise<void> = promisify(fs.fsync);
export const statDescriptor: (fd: number) => Promise<fs.Stats> = promisify<number, fs.Stats>(fs.fstat);
export const O = fs.constants;

/** Reads once into `target`; resolves with the count of bytes, 0 at the end. */
export function readDescriptor(
  fd: number,
  target: Uint8Array,
  offset: number,
  length: number,
  position: number,
): Promise<number> {
  return new Promise((resolve, reject) => {
    fs.read(fd, target, offset, length, position, (error, count) => (error ? reject(error) : resolve(count)));
  });
}

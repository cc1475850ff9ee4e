/**
 * The part of `node:fs` that the daemon's runtime state uses, on files in memory: in the bundle it takes the place of `node:fs` for that folder. Files outlive daemons, and
 * mapped memory is the file itself.
 */
interface MemoryFile {
  bytes: ArrayBuffer;
}

const files = new Map<string, MemoryFile>();
const open = new Map<number, MemoryFile>();
let nextFd = 100;

export const constants = { O_RDWR: 2, O_CREAT: 64 };

function systemError(code: string): Error {
  return Object.assign(new Error(`${code} (simulated)`), { code });
}

function existing(path: string): MemoryFile {
  const file = files.get(path);
  if (file === undefined) throw systemError('ENOENT');
  return file;
}

function opened(fd: number): MemoryFile {
  const file = open.get(fd);
  if (file === undefined) throw systemError('EBADF');
  return file;
}

function resized(file: MemoryFile, size: number): void {
  const bytes = new ArrayBuffer(size);
  new Uint8Array(bytes).set(new Uint8Array(file.bytes, 0, Math.min(size, file.bytes.byteLength)));
  file.bytes = bytes;
}

export function openSync(path: string, flags: string | number): number {
  let file = files.get(path);
  if (file === undefined) {
    if (typeof flags === 'string' || (flags & constants.O_CREAT) === 0) throw systemError('ENOENT');
    file = { bytes: new ArrayBuffer(0) };
    files.set(path, file);
  }
  const fd = nextFd++;
  open.set(fd, file);
  return fd;
}

export function closeSync(fd: number): void {
  opened(fd);
  open.delete(fd);
}

export function mkdirSync(): void {}

export function readdirSync(directory: string): string[] {
  const prefix = `${directory}/`;
  return [...files.keys()]
    .filter((path) => path.startsWith(prefix))
    .map((path) => path.slice(prefix.length))
    .sort();
}

export function readFileSync(path: string): Uint8Array {
  return new Uint8Array(existing(path).bytes.slice(0));
}

export function statSync(path: string): { size: number } {
  return { size: existing(path).bytes.byteLength };
}

export function readSync(fd: number, target: Uint8Array): number {
  const { bytes } = opened(fd);
  const length = Math.min(target.byteLength, bytes.byteLength);
  target.set(new Uint8Array(bytes, 0, length));
  return length;
}

export function renameSync(from: string, to: string): void {
  const file = existing(from);
  files.delete(from);
  files.set(to, file);
}

export function unlinkSync(path: string): void {
  existing(path);
  files.delete(path);
}

export function writeFileSync(path: string, bytes: Uint8Array): void {
  files.set(path, { bytes: bytes.slice().buffer as ArrayBuffer });
}

export function fstatSync(fd: number): { size: number } {
  return { size: opened(fd).bytes.byteLength };
}

export function ftruncateSync(fd: number, size: number): void {
  resized(opened(fd), size);
}

/** In place of the daemon's native binding. */
export const mapping = {
  map(fd: number, bytes: number): ArrayBuffer {
    const file = opened(fd);
    if (file.bytes.byteLength < bytes) resized(file, bytes);
    return file.bytes;
  },
  unmap(): void {},
};

/** The simulation's own view of the files. */
export const memoryFiles = {
  /** Full paths below `directory`. */
  list(directory: string): string[] {
    return readdirSync(directory).map((name) => `${directory}/${name}`);
  },
  bytes(path: string): Uint8Array {
    return new Uint8Array(existing(path).bytes);
  },
  truncate(path: string, size: number): void {
    resized(existing(path), size);
  },
  remove(path: string): void {
    files.delete(path);
  },
  reset(): void {
    files.clear();
    open.clear();
    nextFd = 100;
  },
};

import fs from 'node:fs';
import path from 'node:path';
import type { SystemRoots } from '../../src/device/sysfs.js';
import { scratchDirectory } from './scratch.js';

/** A sysfs as the kernel lays it out: `dev/block/M:m` are links into `devices`, holders and slaves are links between them. */
export class SysfsTree implements SystemRoots {
  readonly sysfsRoot: string;
  readonly devRoot: string;

  constructor() {
    const root = scratchDirectory();
    this.sysfsRoot = path.join(root, 'sys');
    this.devRoot = path.join(root, 'dev');
    fs.mkdirSync(path.join(this.sysfsRoot, 'dev/block'), { recursive: true });
    fs.mkdirSync(path.join(this.sysfsRoot, 'block'));
    fs.mkdirSync(this.devRoot);
  }

  directory(name: string): string {
    return path.join(this.sysfsRoot, 'devices', name);
  }

  /** A disk `sda`, or with `sda/sda1` a partition of it. */
  add(name: string, number: string, files: Record<string, string> = {}): void {
    const directory = this.directory(name);
    fs.mkdirSync(path.join(directory, 'holders'), { recursive: true });
    fs.mkdirSync(path.join(directory, 'slaves'), { recursive: true });
    const all = {
      dev: number,
      size: '2048',
      ro: '0',
      uevent: `MAJOR=0\nDEVNAME=${path.basename(name)}\n`,
      ...files,
    };
    for (const [file, text] of Object.entries(all)) {
      fs.mkdirSync(path.dirname(path.join(directory, file)), { recursive: true });
      fs.writeFileSync(path.join(directory, file), `${text}\n`);
    }
    fs.symlinkSync(directory, path.join(this.sysfsRoot, 'dev/block', number));
    if (!name.includes('/')) fs.symlinkSync(directory, path.join(this.sysfsRoot, 'block', name));
  }

  /** `holder` stands on `slave`. */
  stack(holder: string, slave: string): void {
    fs.symlinkSync(
      this.directory(holder),
      path.join(this.directory(slave), 'holders', path.basename(holder)),
    );
    fs.symlinkSync(this.directory(slave), path.join(this.directory(holder), 'slaves', path.basename(slave)));
  }
}

export const QUEUE = { 'queue/logical_block_size': '512', 'queue/physical_block_size': '4096' };

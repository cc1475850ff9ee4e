import { blockFacts, type Dmsetup, SYSTEM_ROOTS } from '@dmlog/daemon';
import type { UnitProperties } from './commands/doctor-unit.js';

/** What the commands touch; tests give their own. */
export interface Environment {
  readonly out: (text: string | Uint8Array) => void;
  readonly error: (text: string) => void;
  readonly dmsetup: Dmsetup;
  /** Size in bytes of the block device at this path. */
  readonly deviceBytes: (path: string) => Promise<number>;
  /** What systemd says of a unit. */
  readonly unitProperties: UnitProperties;
  /** Roots of the kernel's trees. */
  readonly procRoot: string;
  readonly sysfsRoot: string;
  /** Ends what goes on until it is interrupted. */
  readonly signal: AbortSignal;
  /** The terminal, where standard output is one. */
  readonly terminal: Terminal | null;
}

/** A terminal that can be drawn on. */
export interface Terminal {
  readonly columns: number;
  readonly rows: number;
  readonly onKey: (listener: (key: string) => void) => () => void;
  readonly onResize: (listener: () => void) => () => void;
}

export async function deviceBytes(path: string): Promise<number> {
  const { stat } = await import('node:fs/promises');
  const { isBlockDevice, rdev } = await stat(path).then((found) => ({
    isBlockDevice: found.isBlockDevice(),
    rdev: found.rdev,
  }));
  if (!isBlockDevice) throw Object.assign(new Error(`${path} is not a block device`), { code: 'ENOTBLK' });
  const { deviceNumberOf } = await import('@dmlog/daemon');
  return (await blockFacts(deviceNumberOf(rdev), SYSTEM_ROOTS)).sizeBytes;
}

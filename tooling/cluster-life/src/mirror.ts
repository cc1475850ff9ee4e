import { closeSync, fstatSync, ftruncateSync, openSync, readFileSync } from 'node:fs';
import { Legs } from '../../../packages/cluster/test/kernel-model.js';

/** Where the image's bits begin (the kernel's `disk` format), in bytes. */
const BITS_AT = 1024;
export const REGION_SECTORS = 1024;
/** Lines that are kept of each region. */
const HISTORY_MAX = 60;

export interface MirrorInit {
  readonly uuid: string;
  readonly kind: 'core' | 'disk';
  readonly regions: number;
  /** Of the image; not used by core logs. */
  readonly imagePath: string;
}

/** A mirror on shared storage: its legs, and what its tables say. */
export class Mirror {
  readonly uuid: string;
  readonly kind: 'core' | 'disk';
  readonly regions: number;
  readonly legs: Legs;
  /** What CTR says. */
  readonly text: string;
  readonly #imagePath: string;
  /** By region, what happened last. */
  readonly #history = new Map<number, string[]>();

  constructor({ uuid, kind, regions, imagePath }: MirrorInit) {
    this.uuid = uuid;
    this.kind = kind;
    this.regions = regions;
    this.legs = new Legs(regions);
    // A new mirror: nothing is known of the second leg.
    this.legs.values[1].fill(-1);
    this.legs.note = (region, text) => this.note(region, text);
    this.#imagePath = imagePath;
    const device = kind === 'disk' ? ` ${imagePath}` : '';
    this.text = `${regions * REGION_SECTORS} clustered-${kind}${device} ${REGION_SECTORS}`;
    if (kind === 'disk') makeRoom(imagePath, BITS_AT + Math.ceil(regions / 8));
  }

  /** As `dmsetup table` lists it. */
  get table(): string {
    const [length, type, ...rest] = this.text.split(' ');
    const argumentCount = 2 + rest.length;
    return `0 ${length} mirror userspace ${argumentCount} ${this.uuid} ${type} ${rest.join(' ')} 2 8:0 0 8:16 0`;
  }

  differing(): Map<number, string> {
    const found = new Map<number, string>();
    for (let region = 0; region < this.regions; region++) {
      if (this.legs.differ(region)) found.set(region, this.valuesOf(region));
    }
    return found;
  }

  /** Changes with every write that reaches a leg. */
  valuesOf(region: number): string {
    return this.legs.values.map((leg) => leg[region]).join();
  }

  note(region: number, text: string): void {
    const lines = this.#history.get(region) ?? [];
    this.#history.set(region, lines);
    lines.push(`${(performance.now() / 1000).toFixed(3)} ${text}`);
    if (lines.length > HISTORY_MAX) lines.shift();
  }

  /** What happened to a region last: what kernels asked and were told, and what reached the legs. */
  historyOf(region: number): string {
    return `region ${region} of ${this.uuid}:\n${(this.#history.get(region) ?? []).join('\n')}`;
  }

  get areEqual(): boolean {
    return this.differing().size === 0;
  }

  /** The image as it is now; null for core logs. */
  readImage(): Uint8Array | null {
    return this.kind === 'disk' ? readFileSync(this.#imagePath) : null;
  }
}

export function isCleanOn(image: Uint8Array, region: number): boolean {
  return ((image[BITS_AT + (region >> 3)] as number) & (1 << (region & 7))) !== 0;
}

function makeRoom(path: string, bytes: number): void {
  const descriptor = openSync(path, 'a');
  try {
    const wanted = Math.ceil(bytes / 4096) * 4096;
    if (fstatSync(descriptor).size < wanted) ftruncateSync(descriptor, wanted);
  } finally {
    closeSync(descriptor);
  }
}

import { expect } from 'vitest';
import type { GuestProcess, Machine } from '../src/index.js';

export const BLOCK_BYTES = 4096;

/**
 * Blocks that a writer comes to in turn: `first`, `first + step`, … (`count` of them), then again; those past `first + span` begin at `first` anew. Nobody else may
 * write them.
 */
export interface Share {
  readonly first: number;
  readonly step: number;
  readonly count: number;
  /** Default: far enough. */
  readonly span?: number;
}

const spanOf = ({ step, count, span }: Share) => span ?? step * count;

export interface WriterInit {
  readonly mirror: string;
  readonly device: string;
  readonly nodeId: number;
  /** Number of its first write. Above all numbers used before, so that a block's newest write has the highest. */
  readonly first: number;
  readonly share: Share;
  /** 0: until it is ended. */
  readonly writes: number;
}

/** `guest/block-writer.c` at work: verified writes whose acknowledgements the host sees, also after the machine has died. */
export class Writer {
  readonly process: GuestProcess;
  readonly mirror: string;
  readonly nodeId: number;
  readonly #init: WriterInit;

  private constructor(process: GuestProcess, init: WriterInit) {
    this.process = process;
    this.mirror = init.mirror;
    this.nodeId = init.nodeId;
    this.#init = init;
  }

  static async start(machine: Machine, program: string, init: WriterInit): Promise<Writer> {
    const { device, nodeId, first, share, writes } = init;
    const words = [
      program,
      device,
      nodeId,
      first,
      share.first,
      share.step,
      share.count,
      spanOf(share),
      writes,
    ];
    return new Writer(await machine.start(words.join(' ')), init);
  }

  /** How many of its writes were acknowledged. */
  get count(): number {
    return this.process.output().match(/^\d+ \d+$/gm)?.length ?? 0;
  }

  /** The highest number it may have used so far; the last one may be under way. */
  get reached(): number {
    const { first, writes } = this.#init;
    return writes > 0 ? first + writes - 1 : first + this.count;
  }

  /** Milliseconds of its slowest write so far that was acknowledged. */
  get slowestMs(): number {
    return Math.max(
      0,
      ...[...this.process.output().matchAll(/^\d+ (\d+)$/gm)].map((match) => Number(match[1])),
    );
  }

  /** Where write `index` (from 0) goes, and what it writes there. */
  write(index: number): { block: number; text: string } {
    const { first, share, nodeId } = this.#init;
    const number = first + index;
    const block = share.first + ((((number - 1) % share.count) * share.step) % spanOf(share));
    return { block, text: `node ${nodeId} write ${number} block ${block}` };
  }

  /** Waits until it has so many acknowledged writes more. */
  async more(count: number): Promise<void> {
    const goal = this.count + count;
    await expect.poll(() => this.count >= goal || !this.process.running, { timeout: 60_000 }).toBe(true);
    expect(this.count, this.process.output()).toBeGreaterThanOrEqual(goal);
  }

  /** Lets the write that is under way return, and checks that none has failed. */
  async end(): Promise<void> {
    this.process.kill('SIGTERM');
    await this.done();
  }

  async done(): Promise<void> {
    expect(await this.process.exited, this.process.output()).toBe(0);
  }

  /** Adds to `newest`, for each block that it wrote, what may be there: the last acknowledged write, or one after it that was cut short. Call in the order of starts. */
  note(newest: Map<number, string[]>): void {
    const { count } = this;
    for (let index = 0; index < count; index++) {
      const { block, text } = this.write(index);
      newest.set(block, [text]);
    }
    if (/^end /m.test(this.process.output())) return;
    const { block, text } = this.write(count);
    // Where nobody wrote before, anything may be.
    newest.get(block)?.push(text);
  }
}

/**
 * What node `id` of `nodes` may write: every `nodes`-th block, so that all write in the same regions. One comes to a region again only after all others, so that each
 * write has to be marked; `stride` must be prime to a node's blocks.
 */
export function interleaved(blocks: number, nodes: number, id: number, stride = 37): Share {
  const count = Math.floor(blocks / nodes);
  return { first: id - 1, step: nodes * stride, count, span: nodes * count };
}

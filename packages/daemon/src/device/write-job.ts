import fs from 'node:fs';
import { DeviceError, reason } from './errors.js';

/** Told once when all runs are on stable media, or with the first failure, after which nothing is known of the blocks. */
export type WriteCallback = (error: DeviceError | null) => void;

/** Runs of bytes as pairs `offset, length`. */
export type Runs = ArrayLike<number>;

const NOTHING = new Uint8Array(0);
const ignore: WriteCallback = () => {};

/** Runs of one job under way at once, each in a thread of the pool. Most flushes have one run. */
export const RUNS_AT_ONCE_MAX = 16;

/** One run on its way to the device. Made once per place in a job and used again: a flush allocates nothing here. */
class Lane {
  position = 0;
  left = 0;
  readonly onWritten: (error: NodeJS.ErrnoException | null, written: number) => void;

  constructor(onEnd: (lane: Lane, error: NodeJS.ErrnoException | null, written: number) => void) {
    this.onWritten = (error, written) => onEnd(this, error, written);
  }
}

/**
 * The writes of one flush to a log device. Made once and used again and again: a flush allocates nothing here (Node's own request
 * object for each write remains).
 *
 * Runs are written at once, not one after the other: a device that is told to write through (O_DSYNC) answers after its whole latency, and
 * marks far apart in a large image would add theirs up (measured on a device of 20 ms: 8 writers, half the writes).
 */
export class WriteJob {
  readonly #path: string;
  readonly #blockBytes: number;
  readonly #release: (job: WriteJob) => void;
  readonly #lanes: Lane[] = [];
  #fd = -1;
  #source: Uint8Array = NOTHING;
  #sourceShift = 0;
  #runs: Runs = NOTHING;
  #count = 0;
  /** The next run to begin. */
  #next = 0;
  #underWay = 0;
  #failed: DeviceError | null = null;
  #callback: WriteCallback = ignore;

  constructor(path: string, blockBytes: number, release: (job: WriteJob) => void) {
    this.#path = path;
    this.#blockBytes = blockBytes;
    this.#release = release;
  }

  /**
   * Writes `count` runs, in no order; a run's bytes stand in `source` at its device position plus `sourceShift`. `source` and `runs` are borrowed
   * until the callback: bytes that change meanwhile may or may not be written.
   */
  start(
    fd: number,
    source: Uint8Array,
    sourceShift: number,
    runs: Runs,
    count: number,
    callback: WriteCallback,
  ): void {
    this.#fd = fd;
    this.#source = source;
    this.#sourceShift = sourceShift;
    this.#runs = runs;
    this.#count = count;
    this.#next = 0;
    this.#failed = null;
    this.#callback = callback;
    const atOnce = Math.min(count, RUNS_AT_ONCE_MAX);
    while (this.#lanes.length < atOnce) this.#lanes.push(new Lane(this.#onWritten));
    this.#underWay = atOnce;
    if (atOnce === 0) this.#finish();
    for (let i = 0; i < atOnce; i++) this.#begin(this.#lanes[i] as Lane);
  }

  /** Takes the next run into a lane, or ends the lane: with the last one the job has ended. */
  #begin(lane: Lane): void {
    if (this.#next < this.#count && this.#failed === null) {
      lane.position = this.#runs[2 * this.#next] as number;
      lane.left = this.#runs[2 * this.#next + 1] as number;
      this.#next++;
      this.#write(lane);
    } else if (--this.#underWay === 0) {
      this.#finish();
    }
  }

  #write(lane: Lane): void {
    const { position, left } = lane;
    try {
      fs.write(this.#fd, this.#source, position + this.#sourceShift, left, position, lane.onWritten);
    } catch (error) {
      // Node checks ranges before it calls the system. Our own were checked, so this is a bug, but it must not stop the daemon.
      this.#fail(lane, error);
    }
  }

  readonly #onWritten = (lane: Lane, error: NodeJS.ErrnoException | null, written: number): void => {
    if (error !== null) {
      this.#fail(lane, error);
      return;
    }
    if (written >= lane.left) {
      this.#begin(lane);
      return;
    }
    // A short write may end within a block, but a direct write cannot begin there: that block is written again.
    const whole = written - (written % this.#blockBytes);
    if (whole === 0) {
      this.#fail(lane, new Error(`the device took ${written} of ${lane.left} bytes`));
      return;
    }
    lane.position += whole;
    lane.left -= whole;
    this.#write(lane);
  };

  /** The first failure is the job's. No further run begins, and those under way end first: their memory is borrowed until then. */
  #fail(lane: Lane, cause: unknown): void {
    this.#failed ??= new DeviceError(
      'ERR_LOG_DEVICE_WRITE',
      this.#path,
      `cannot write ${lane.left} bytes at byte ${lane.position} of log device ${this.#path}: ${reason(cause)}; ` +
        'its marks are not safe: look at the kernel log and exchange the device',
      { cause },
    );
    this.#begin(lane);
  }

  #finish(): void {
    const callback = this.#callback;
    const failed = this.#failed;
    this.#source = NOTHING;
    this.#runs = NOTHING;
    this.#failed = null;
    this.#callback = ignore;
    this.#release(this);
    callback(failed);
  }
}

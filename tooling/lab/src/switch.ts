/**
 * An Ethernet switch whose cables can be pulled: learns addresses as a real one, and cuts, partitions, delays and drops. It knows ports and
 * frames only; how a frame comes to a machine is `switch-port.ts`.
 */

/** How a machine's cable behaves; it counts for every frame that leaves or reaches the machine. */
export interface LinkShape {
  /** Added to the way of each frame; whole milliseconds, 0 (default) is none. */
  readonly delayMs?: number;
  /** Share of frames that are lost: 0 (default) to 1. */
  readonly dropRate?: number;
}

/** What became of the frames so far. A frame that is flooded counts once for each port that it goes to. */
export interface SwitchStats {
  readonly forwarded: number;
  /** Stopped by a cut or a partition. */
  readonly cut: number;
  /** Lost by `dropRate`, or because more than FRAMES_WAITING_MAX were being delayed. */
  readonly dropped: number;
}

export interface SwitchParts {
  send(port: number, frame: Uint8Array): void;
  later(delayMs: number, action: () => void): void;
  /** Uniform in [0, 1). */
  random(): number;
}

/** Ethernet II: 6 bytes destination, 6 bytes source, 2 bytes type. */
const ETHERNET_HEADER_BYTES = 14;
const SOURCE_OFFSET = 6;
const MAC_BYTES = 6;
/** Lowest bit of the first byte: to many (broadcast is the case of all bits set). IEEE 802.3, 3.2.3. */
const GROUP_BIT = 1;
/** Frames that wait for their delay. Corosync sends a few hundred at once; more than this is a loop or a flood. */
export const FRAMES_WAITING_MAX = 20_000;

export class FrameSwitch {
  readonly #parts: SwitchParts;
  readonly #ports = new Set<number>();
  /** Source address (as a number below 2^48) → port. */
  readonly #learned = new Map<number, number>();
  readonly #cut = new Set<number>();
  /** Port → its side. Ports of no group see only each other. Empty: no partition. */
  #sides = new Map<number, number>();
  readonly #shapes = new Map<number, Required<LinkShape>>();
  #waiting = 0;
  #forwarded = 0;
  #stopped = 0;
  #dropped = 0;

  constructor(parts: SwitchParts) {
    this.#parts = parts;
  }

  addPort(port: number): void {
    this.#ports.add(port);
  }

  /** Pulls the machine's cable: nothing reaches it, nothing leaves it. */
  cut(port: number): void {
    this.#cut.add(port);
  }

  /** Plugs the cable in again. A partition stays. */
  heal(port: number): void {
    this.#cut.delete(port);
  }

  /** Machines of one group see each other and no others; those not named form one more group. `[]` ends the partition. Cuts stay. */
  partition(groups: readonly (readonly number[])[]): void {
    this.#sides = new Map(groups.flatMap((group, side) => group.map((port) => [port, side] as const)));
  }

  /** Replaces the whole shape of one machine's cable: `{}` makes it perfect again. */
  shape(port: number, { delayMs = 0, dropRate = 0 }: LinkShape): void {
    this.#shapes.set(port, { delayMs, dropRate });
  }

  stats(): SwitchStats {
    return { forwarded: this.#forwarded, cut: this.#stopped, dropped: this.#dropped };
  }

  /** A frame that came from a port. What is shorter than an Ethernet header is ignored. */
  receive(from: number, frame: Uint8Array): void {
    if (frame.length < ETHERNET_HEADER_BYTES || !this.#ports.has(from)) return;
    // Learned even when the cable is cut: only then can the first frame after a heal find its way.
    this.#learned.set(address(frame, SOURCE_OFFSET), from);
    const known = (frame[0]! & GROUP_BIT) === 0 ? this.#learned.get(address(frame, 0)) : undefined;
    if (known !== undefined) {
      if (known !== from) this.#forward(from, known, frame);
      return;
    }
    for (const port of this.#ports) if (port !== from) this.#forward(from, port, frame);
  }

  #forward(from: number, to: number, frame: Uint8Array): void {
    if (!this.#connected(from, to)) {
      this.#stopped++;
      return;
    }
    const [near, far] = [this.#shapes.get(from), this.#shapes.get(to)];
    const delayMs = (near?.delayMs ?? 0) + (far?.delayMs ?? 0);
    if (this.#loses(near) || this.#loses(far) || (delayMs > 0 && this.#waiting >= FRAMES_WAITING_MAX)) {
      this.#dropped++;
      return;
    }
    if (delayMs === 0) {
      this.#forwarded++;
      this.#parts.send(to, frame);
      return;
    }
    this.#waiting++;
    this.#parts.later(delayMs, () => {
      this.#waiting--;
      // What is on its way when the cable is pulled is lost, as in a cable.
      if (this.#connected(from, to)) {
        this.#forwarded++;
        this.#parts.send(to, frame);
      } else this.#stopped++;
    });
  }

  #connected(a: number, b: number): boolean {
    return !this.#cut.has(a) && !this.#cut.has(b) && this.#sides.get(a) === this.#sides.get(b);
  }

  #loses(shape: Required<LinkShape> | undefined): boolean {
    return shape !== undefined && shape.dropRate > 0 && this.#parts.random() < shape.dropRate;
  }
}

function address(frame: Uint8Array, offset: number): number {
  let value = 0;
  for (let at = offset; at < offset + MAC_BYTES; at++) value = value * 256 + frame[at]!;
  return value;
}

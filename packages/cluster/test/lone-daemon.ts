import { imageBytes, parseConstructor, ReplyKind, writeHeader } from '@dmlog/log';
import { RequestType } from '@dmlog/protocol';
import { ClusterEffects } from '../src/cluster-effects.js';
import type { ClusteredLog } from '../src/clustered-log.js';
import type { Entry } from '../src/entries.js';
import { type SimulatedMember, SimulatedNetwork, TAME_NETWORK } from '../src/group/simulated.js';
import type { ImageWriter } from '../src/image-writer.js';
import { Replica } from '../src/replica.js';
import { randomFrom } from './group-random.js';
import { Wire } from './kernel-model.js';

const REGIONS = 8;
const REGION_SECTORS = 8;
const BLOCK_BYTES = 512;

/** One daemon, alone in its group, whose devices do everything at once. */
export class LoneDaemon {
  readonly replica: Replica;
  readonly #network = new SimulatedNetwork({ nodes: [1], random: randomFrom(1), chances: TAME_NETWORK });
  readonly #effects = new ClusterEffects();
  readonly #wire = new Wire();
  readonly #answers = new Map<number, number>();
  readonly image: Uint8Array | null;
  /** Writes to the image fail. */
  failsWrites = false;
  /** Writes to the image do not end. */
  holdsWrites = false;
  readonly #held: (() => void)[] = [];
  #group: SimulatedMember | null = null;

  constructor(kind: 'core' | 'disk' = 'core') {
    const device = kind === 'disk' ? ' 7:0' : '';
    this.image = kind === 'disk' ? new Uint8Array(imageBytes(REGIONS, BLOCK_BYTES)) : null;
    if (this.image !== null) writeHeader(this.image, REGIONS);
    this.replica = new Replica({
      parameters: parseConstructor(
        `${REGIONS * REGION_SECTORS} clustered-${kind}${device} ${REGION_SECTORS}`,
        {
          clustered: true,
        },
      ),
      bootId: '1'.padStart(32, '0'),
      lazyClear: { milliseconds: 0, regionsMax: 8 },
      blockBytes: BLOCK_BYTES,
      deviceNumber: kind === 'disk' ? '7:0' : null,
    });
  }

  /** Asks and waits for the answer: 0 or a positive errno. */
  ask(log: ClusteredLog, type: keyof typeof RequestType, ...words: number[]): number {
    const answer = this.send(log, type, ...words)();
    if (answer === undefined) throw new Error(`${type} is not answered`);
    return answer;
  }

  /** Asks; returns how it is answered so far. */
  send(log: ClusteredLog, type: keyof typeof RequestType, ...words: number[]): () => number | undefined {
    const view = this.#wire.request('LVM-test', 1, { type: RequestType[type], words });
    const { seq } = this.#wire;
    this.#step((effects) => {
      log.request(view, 0, effects);
      if (effects.reply !== ReplyKind.LATER && effects.reply !== ReplyKind.SILENT)
        this.#answers.set(seq, effects.reply === ReplyKind.ERROR ? effects.errno : 0);
    });
    this.#network.run(10_000);
    return () => this.#answers.get(seq);
  }

  /** What its kernel is told of the region; null: nothing. */
  isInSync(log: ClusteredLog, region: number): number | null {
    const view = this.#wire.request('LVM-test', 1, { type: RequestType.IN_SYNC, words: [region] });
    let said: number | null = null;
    this.#step((effects) => {
      log.request(view, 0, effects);
      if (effects.reply === ReplyKind.VALUE) said = effects.first;
    });
    return said;
  }

  /** Writes to the image end from now on, those that were held back first. */
  release(): void {
    this.holdsWrites = false;
    for (const end of this.#held.splice(0)) end();
  }

  tick(log: ClusteredLog, nowMs: number): void {
    this.#step((effects) => log.tick(nowMs, effects));
    this.#network.run(10_000);
  }

  get needReload(): number[] {
    return [...(this.replica.state?.needReload ?? [-1])];
  }

  /** Puts changes in order as this node's, and lets everything settle. */
  submit(entries: readonly Entry[]): void {
    this.replica.member?.submit(entries);
    this.#step(() => {});
    this.#network.run(10_000);
  }

  #step(event: (effects: ClusterEffects) => void): void {
    const effects = this.#effects;
    effects.reset();
    event(effects);
    const { late } = effects;
    for (let i = 0; i < late.count; i++) this.#answers.set(late.seq[i] as number, late.errno[i] as number);
    late.count = 0;
    const { join, flushLegs, readImage, write } = effects;
    if (join) this.#join();
    if (readImage) {
      const image = (this.image as Uint8Array).slice();
      this.#step((e) => this.replica.imageRead(image, 0, e));
    }
    if (write && this.holdsWrites) this.#held.push(() => this.#write());
    else if (write) this.#write();
    if (flushLegs) this.#step((e) => this.replica.legsFlushed(true, e));
    for (const bytes of this.replica.takeOutbox()) this.#group?.send(bytes);
  }

  #join(): void {
    const { replica } = this;
    this.#group = this.#network.join(1, 'log', {
      confchg: (members, left, joined) => this.#step((e) => replica.confchg(members, left, joined, e)),
      ring: (ring, nodes, quorate) => this.#step((e) => replica.ringChanged(ring, nodes, quorate, e)),
      deliver: (sender, bytes) => this.#step((e) => replica.deliver(sender, bytes, e)),
      drain: () => {},
      died: () => {},
    });
    replica.joined(this.#group.self, 1);
  }

  #write(): void {
    if (this.failsWrites) return this.#step((e) => this.replica.written(5, e));
    const { keeper } = this.replica.image as ImageWriter;
    if (keeper === null) throw new Error('a write without a keeper');
    const { image, runs, runCount } = keeper;
    for (let i = 0; i < runCount; i++) {
      const from = runs[2 * i] as number;
      this.image?.set(image.subarray(from, from + (runs[2 * i + 1] as number)), from);
    }
    this.#step((e) => this.replica.written(0, e));
  }
}

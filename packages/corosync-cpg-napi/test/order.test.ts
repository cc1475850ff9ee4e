import { beforeEach, describe, expect, it } from 'vitest';
import { BatchReader } from '../src/batch.js';
import { CONTROL_BYTES, Control, EventKind, INLINE_AT } from '../src/binding.js';
import { EventOrder } from '../src/order.js';
import type { CpgHandlers, CpgRing } from '../src/types.js';

const SELF = { nodeId: 1, pid: 10 };
const OTHER = { nodeId: 2, pid: 20 };

/** Batches as the addon makes them. */
class Script {
  readonly words = new Uint32Array(Control.WORDS);
  readonly #chunks: Buffer[] = [];
  #bytes = 0;
  quorums = 0;
  events = 0;

  #row(start: number, index: number, kind: number, nodeId: number, pid: number, payload: Buffer): void {
    this.words.set(
      [kind, nodeId, pid, this.#bytes, payload.length],
      Control[start === 0 ? 'QUORUM_ROWS' : 'EVENT_ROWS'] + index * Control.ROW_WORDS,
    );
    const padded = Buffer.alloc((payload.length + 7) & ~7);
    payload.copy(padded);
    this.#chunks.push(padded);
    this.#bytes += padded.length;
  }

  quorum(seq: number, quorate: boolean): this {
    this.#row(0, this.quorums++, EventKind.QUORUM, quorate ? 1 : 0, 0, words(1, seq, 0, 1, 1));
    return this;
  }

  message(text: string): this {
    this.#row(1, this.events++, EventKind.MESSAGE, OTHER.nodeId, OTHER.pid, Buffer.from(text));
    return this;
  }

  ring(seq: number, nodes = [1]): this {
    this.#row(1, this.events++, EventKind.RING, 0, 0, words(1, seq, 0, nodes.length, ...nodes));
    return this;
  }

  confchg(left: (typeof SELF)[], joined: (typeof SELF)[]): this {
    const flat = [...left, ...joined].flatMap(({ nodeId, pid }) => [nodeId, pid, 1]);
    this.#row(1, this.events++, EventKind.CONFCHG, 0, 0, words(0, left.length, joined.length, ...flat));
    return this;
  }

  /** Hands the batch over and begins the next. `inline`: in the control block, as the addon does with small ones. */
  play(reader: BatchReader, control: ArrayBuffer, inline: boolean): void {
    const into = new Uint32Array(control, 0, Control.WORDS);
    into.set(this.words);
    const { quorums, events } = this;
    const bytes = Buffer.concat(this.#chunks.splice(0));
    this.quorums = this.events = this.#bytes = 0;
    if (inline) {
      into[Control.INLINE_BYTES] = bytes.length;
      bytes.copy(Buffer.from(control, INLINE_AT));
    }
    reader.read(inline ? null : bytes, quorums, events);
  }
}

const words = (...numbers: number[]): Buffer => Buffer.from(new Uint32Array(numbers).buffer);

describe('the order of events', () => {
  let told: string[];
  let throwAt: string | undefined;
  let script: Script;
  let inline: boolean;
  const control = new ArrayBuffer(CONTROL_BYTES);
  let kept: Buffer[];

  const make = (quorumTracked = true): BatchReader => {
    const tell = (text: string): void => {
      told.push(text);
      if (text === throwAt) throw new Error('planted');
    };
    const ringText = ({ seq, quorate }: CpgRing): string => `${seq}:${quorate}`;
    const handlers: CpgHandlers = {
      deliver: (_nodeId, _pid, bytes) => {
        kept.push(bytes);
        tell(bytes.toString());
      },
      confchg: ({ left, joined }) => tell(`left ${left.length} joined ${joined.length}`),
      ring: (ring) => tell(`ring ${ringText(ring)}`),
      quorum: (ring) => tell(`quorum ${ringText(ring)}`),
      batchEnd: () => told.push('.'),
      died: () => {},
    };
    const hooks = { joined: () => {}, ringKnown: () => {}, left: () => tell('out') };
    return new BatchReader(control, new EventOrder(handlers, hooks, () => SELF, quorumTracked));
  };
  const played = (reader: BatchReader): string[] => {
    told = [];
    script.play(reader, control, inline);
    return told;
  };
  const joined = (): BatchReader => {
    const reader = make();
    script.quorum(1, true).confchg([], [SELF]);
    played(reader);
    script.ring(1);
    expect(played(reader)).toEqual(['ring 1:true', '.']);
    return reader;
  };

  beforeEach(() => {
    told = [];
    throwAt = undefined;
    inline = true;
    kept = [];
    script = new Script();
  });

  it.each([true, false])('gives payloads that outlive the next batch (in the control block: %s)', (where) => {
    const reader = joined();
    inline = where;
    script.message('one').message('two');
    expect(played(reader)).toEqual(['one', 'two', '.']);
    script.message('three');
    expect(played(reader)).toEqual(['three', '.']);
    expect(kept.map(String)).toEqual(['one', 'two', 'three']);
  });

  it('begins with our own confchg, then tells the ring', () => {
    const reader = make();
    script.quorum(1, true).ring(1);
    expect(played(reader)).toEqual([]);
    script.confchg([], [OTHER]);
    expect(played(reader)).toEqual([]);
    script.confchg([], [SELF]);
    expect(played(reader)).toEqual(['left 0 joined 1', 'ring 1:true', '.']);
    script.ring(1);
    expect(played(reader)).toEqual(['.']);
  });

  it('holds a ring until its quorum is known', () => {
    const reader = joined();
    script.ring(2);
    expect(played(reader)).toEqual(['.']);
    script.quorum(2, false);
    expect(played(reader)).toEqual(['ring 2:false', '.']);
  });

  it('knows a ring by the quorum of the same batch, before its first message', () => {
    const reader = joined();
    script.ring(2);
    played(reader);
    script.quorum(2, true).message('a').message('b');
    expect(played(reader)).toEqual(['ring 2:true', 'a', 'b', '.']);
  });

  it('takes the quorum that came before its ring', () => {
    const reader = joined();
    script.quorum(2, true).message('a');
    expect(played(reader)).toEqual(['a', '.']);
    script.confchg([OTHER], []);
    expect(played(reader)).toEqual(['left 1 joined 0', '.']);
    script.ring(2);
    expect(played(reader)).toEqual(['ring 2:true', '.']);
  });

  it('tells a ring that was overtaken by the next as not quorate', () => {
    const reader = joined();
    script.ring(2);
    played(reader);
    script.ring(3);
    expect(played(reader)).toEqual(['ring 2:false', '.']);
    script.quorum(3, true);
    expect(played(reader)).toEqual(['ring 3:true', '.']);
    script.ring(4);
    played(reader);
    script.quorum(5, true);
    expect(played(reader)).toEqual(['ring 4:false', '.']);
    script.ring(5);
    expect(played(reader)).toEqual(['ring 5:true', '.']);
  });

  it('tells a change of quorum within a ring once', () => {
    const reader = joined();
    script.quorum(1, false);
    expect(played(reader)).toEqual(['quorum 1:false', '.']);
    script.quorum(1, false);
    expect(played(reader)).toEqual(['.']);
  });

  it('does not wait for a quorum that nobody provides', () => {
    const reader = make(false);
    script.confchg([], [SELF]);
    played(reader);
    script.ring(1);
    expect(played(reader)).toEqual(['ring 1:undefined', '.']);
  });

  it('says that we are out after our own leave was told', () => {
    const reader = joined();
    script.confchg([SELF], []);
    expect(played(reader)).toEqual(['left 1 joined 0', 'out', '.']);
  });

  it.each(['ring 2:true', 'a', 'b'])('loses no event when the handler of "%s" throws', (at) => {
    const reader = joined();
    script.ring(2);
    played(reader);
    throwAt = at;
    script.quorum(2, true).message('a').message('b').message('c');
    expect(() => played(reader)).toThrow('planted');
    reader.resume();
    expect(told).toEqual(['ring 2:true', 'a', 'b', 'c', '.']);
  });
});

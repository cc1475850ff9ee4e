/** A member of one group, run in a node of the cluster and driven by lines; see member-client.ts for its types. */
import { type LineMethods, serveLines } from '@dmlog/corosync-lab';
import { type CpgGroup, openCpg } from '../src/index.js';
import type { MemberEvent, MemberMethods, OpenParameters } from './member-client.js';

let group: CpgGroup | undefined;
let ticks = 0;
let flood: Flood | undefined;
let received: { count: number; inOrder: boolean; bytes: number; next: Map<string, number> };

/** Sends numbered messages as fast as backpressure lets it. */
class Flood {
  refused = 0;
  #next = 0;
  readonly #count: number;
  readonly #size: number;
  readonly #done: () => void;

  constructor(count: number, size: number, done: () => void) {
    this.#count = count;
    this.#size = size;
    this.#done = done;
  }

  run(): void {
    const message = Buffer.alloc(this.#size, 0x5a);
    for (; this.#next < this.#count; this.#next++) {
      message.writeUInt32LE(this.#next);
      if (group!.send(message)) continue;
      this.refused++;
      return;
    }
    this.#done();
  }
}

setInterval(() => ticks++, 5).unref();

const methods: MemberMethods & LineMethods = {
  async open({ quiet, ...options }: OpenParameters) {
    received = { count: 0, inOrder: true, bytes: 0, next: new Map() };
    group = await openCpg({
      ...options,
      handlers: {
        deliver(nodeId, pid, bytes) {
          if (quiet === true) {
            const sender = `${nodeId}:${pid}`;
            const number = bytes.readUInt32LE();
            if (number !== (received.next.get(sender) ?? 0)) received.inOrder = false;
            received.next.set(sender, number + 1);
            received.count++;
            received.bytes += bytes.length;
          } else {
            emit({ kind: 'message', nodeId, pid, text: bytes.toString(), ring: group?.ring?.seq ?? -1 });
          }
        },
        confchg(change) {
          emit({ kind: 'confchg', ...change });
        },
        ring(ring) {
          emit({ kind: 'ring', ...ring });
        },
        quorum: (ring) => emit({ kind: 'quorum', ...ring }),
        drain: () => flood?.run(),
        died(error) {
          emit({ kind: 'died', code: (error as Error & { code: string }).code });
        },
      },
    });
    return {
      nodeId: group.nodeId,
      pid: group.pid,
      maxMessageBytes: group.maxMessageBytes,
      hasQuorum: group.hasQuorum,
    };
  },
  join: () => group!.join(),
  send: ({ text }) => group!.send(Buffer.from(text)),
  sendSize: ({ bytes }) => group!.send(Buffer.alloc(bytes)),
  flood: ({ count, size }) =>
    new Promise<{ refused: number }>((resolve) => {
      flood = new Flood(count, size, () => resolve({ refused: flood!.refused }));
      flood.run();
    }),
  received: () => ({ count: received.count, inOrder: received.inOrder, bytes: received.bytes }),
  stats: () => group!.stats(),
  ring: () => group!.ring ?? null,
  ticks: () => ticks,
  leave: () => group!.leave(),
  close: () => group!.close(),
};

const emit = serveLines<MemberEvent>(methods);

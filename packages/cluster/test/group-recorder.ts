import type { GroupHandlers, JoinedMember, LeftMember, OrderedGroup } from '../src/group/contract.js';

/** What a member saw, as plain data: it may come from another process. Members are `node.pid`, rings `node.seq`. */
export type RecordedEvent =
  | { kind: 'message'; from: string; text: string; bytes: number; intact: boolean }
  | { kind: 'confchg'; members: string[]; left: [string, number][]; joined: [string, number][] }
  | { kind: 'ring'; ring: string; nodes: number[]; quorate: boolean }
  | { kind: 'drain' }
  | { kind: 'died'; error: string }
  /** What became of a command. `refused`: a send returned false. `left`: the promise of `leave` is fulfilled. */
  | { kind: 'refused' }
  | { kind: 'left' }
  | { kind: 'thrown'; name: string };

export type Command =
  | { op: 'send'; texts: string[] }
  /** In one turn of the event loop: nothing comes in between. */
  | { op: 'sendAndClose'; texts: string[] }
  /** `count` messages of `bytes` bytes, `tag`-0, `tag`-1, …: as fast as the group takes them. */
  | { op: 'flood'; tag: string; count: number; bytes: number }
  | { op: 'sendTooLarge' }
  | { op: 'leave' }
  | { op: 'close' }
  /** When the message `text` is delivered, inside the handler. */
  | { op: 'upon'; text: string; does: 'throw' | 'close' | 'leave' | 'answer' };

const FILLER = '|'.charCodeAt(0);

/** A message that can be checked: a text, then filler. */
export function encodeText(text: string, bytes = text.length): Uint8Array {
  const message = new Uint8Array(Math.max(bytes, text.length)).fill(FILLER);
  for (let index = 0; index < text.length; index++) message[index] = text.charCodeAt(index);
  return message;
}

function decodeText(bytes: Uint8Array): { text: string; intact: boolean } {
  let end = bytes.indexOf(FILLER);
  if (end < 0) end = bytes.length;
  const text = String.fromCharCode(...bytes.subarray(0, end));
  let intact = true;
  for (let index = end; index < bytes.length; index++) intact &&= bytes[index] === FILLER;
  return { text, intact };
}

const numbers = ({ nodeId, pid }: { nodeId: number; pid: number }) => `${nodeId}.${pid}`;
const withReason = (member: LeftMember | JoinedMember): [string, number] => [numbers(member), member.reason];

/** A member that does as it is told and notes what it sees. */
export class Recorder {
  readonly handlers: GroupHandlers;
  #group: OrderedGroup | null = null;
  readonly #note: (event: RecordedEvent) => void;
  readonly #upon = new Map<string, string>();
  #flood: { tag: string; count: number; bytes: number; next: number } | null = null;

  constructor(note: (event: RecordedEvent) => void) {
    this.#note = note;
    this.handlers = {
      deliver: (sender, bytes) => {
        const decoded = decodeText(bytes);
        note({ kind: 'message', from: numbers(sender), bytes: bytes.length, ...decoded });
        this.#react(this.#upon.get(decoded.text));
      },
      confchg: (members, left, joined) =>
        note({
          kind: 'confchg',
          members: members.map(numbers),
          left: left.map(withReason),
          joined: joined.map(withReason),
        }),
      ring: (ring, nodes, quorate) =>
        note({ kind: 'ring', ring: `${ring.nodeId}.${ring.seq}`, nodes: [...nodes], quorate }),
      drain: () => {
        note({ kind: 'drain' });
        this.#goOn();
      },
      died: (error) => note({ kind: 'died', error: error.message }),
    };
  }

  attach(group: OrderedGroup): void {
    this.#group = group;
  }

  do(command: Command): void {
    const group = this.#group!;
    try {
      switch (command.op) {
        case 'send':
          for (const text of command.texts)
            if (!group.send(encodeText(text))) this.#note({ kind: 'refused' });
          return;
        case 'flood':
          this.#flood = { ...command, next: 0 };
          return this.#goOn();
        case 'sendAndClose':
          this.do({ op: 'send', texts: command.texts });
          this.do({ op: 'close' });
          return;
        case 'sendTooLarge':
          group.send(new Uint8Array(group.maxMessageBytes + 1));
          return;
        case 'leave':
          void group.leave().then(() => this.#note({ kind: 'left' }));
          return;
        case 'close':
          void group.close();
          return;
        case 'upon':
          this.#upon.set(command.text, command.does);
          return;
      }
    } catch (thrown) {
      this.#note({ kind: 'thrown', name: (thrown as Error).name });
    }
  }

  #react(does: string | undefined): void {
    if (does === 'throw') throw new Error('the handler failed, as told');
    if (does === 'close') this.do({ op: 'close' });
    if (does === 'leave') this.do({ op: 'leave' });
    if (does === 'answer') this.do({ op: 'send', texts: ['answer'] });
  }

  #goOn(): void {
    const flood = this.#flood;
    if (flood === null) return;
    for (; flood.next < flood.count; flood.next++) {
      if (!this.#send(`${flood.tag}-${flood.next}`, flood.bytes)) return;
    }
    this.#flood = null;
  }

  /** The bytes are ours again as soon as `send` returned. */
  #send(text: string, bytes?: number): boolean {
    const message = encodeText(text, bytes);
    const taken = this.#group!.send(message);
    message.fill(0);
    if (!taken) this.#note({ kind: 'refused' });
    return taken;
  }
}

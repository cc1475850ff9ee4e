/** Situations that a long run has to come to; one that it never reaches proves nothing about it. */
export const SITUATIONS = [
  'write acknowledged',
  'read checked',
  'region recovered',
  'write delayed by recovery',
  'machine crash',
  'power cut of all machines',
  'legs lost what was not flushed',
  'log device write torn',
  'daemon death',
  'daemon found its logs again',
  'daemon handed over its place',
  'daemon state lost',
  'daemon state damaged',
  'state of another boot left behind',
  'engine death',
  'partition',
  'machine paused',
  'clock jump',
  'request lost',
  'reply lost',
  'request repeated after 15 s',
  'kernel reconnected',
  'late reply',
  'asked again by EAGAIN',
  'table exchanged',
  'table suspended and resumed',
  'inactive table cleared',
  'mirror removed',
  'reload by the daemon',
  'log device failed',
  'leg failed',
  'slow legs',
  'write held after a leg failed',
  'recovery failed',
  'region found not in sync by a write',
  'flush pending at the death of the writer',
  'join during a join',
  'sender of a snapshot died half way',
  'the writer handed its office to a joiner',
  'the office of the writer was taken over',
  'lease held at a death',
  'stale region marked before its recovery',
  'two rings at once',
  'writes on both sides of a partition',
  'member refused by a full queue',
  'data of a node taken for dead reached a leg',
  'image written by a node taken for dead',
  'fault in the middle of a request',
  'machine never back',
] as const;
export type Situation = (typeof SITUATIONS)[number];

/** How often each situation was come to. */
export class Coverage {
  readonly counts: Record<Situation, number>;

  constructor() {
    this.counts = Object.fromEntries(SITUATIONS.map((name) => [name, 0])) as Record<Situation, number>;
  }

  saw(situation: Situation): void {
    this.counts[situation]++;
  }

  add(counts: Readonly<Record<Situation, number>>): void {
    for (const name of SITUATIONS) this.counts[name] += counts[name];
  }

  get missing(): Situation[] {
    return SITUATIONS.filter((name) => this.counts[name] === 0);
  }
}

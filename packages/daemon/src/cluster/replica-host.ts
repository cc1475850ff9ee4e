import { randomInt } from 'node:crypto';
import {
  ClusterEffects,
  type ClusteredLog,
  type GroupMember,
  type JoinGroup,
  type KeptReplica,
  LeaveReason,
  type LeftMember,
  Replica,
} from '@dmlog/cluster';
import { type Effects, type LazyClearOptions, type LogParameters, ReplyKind } from '@dmlog/log';
import { Errno, type FrameView } from '@dmlog/protocol';
import type { Logger } from '../logging.js';
import type { ImageStore, LateReply, Legs, ServedCounters } from '../served.js';
import type { RuntimeState } from '../state/runtime-state.js';
import { groupNameOf } from './group-name.js';
import { Membership } from './membership.js';

/** A mirror has a request or two under way. */
const SILENT_MAX = 16;

/** Nonces are u32; 0 is left out. */
const NONCE_END = 2 ** 32;

/** What all replicas of a daemon stand on. */
export interface ClusterParts {
  /** Joins a group of corosync, or a simulated one. */
  readonly joinGroup: JoinGroup;
  /** This boot's id, 32 hexadecimal digits. */
  readonly bootId: string;
  readonly lazyClear: LazyClearOptions;
  readonly allocateImage: (bytes: number) => Uint8Array;
  /** What outlives this process; null: nothing does. */
  readonly state: RuntimeState | null;
  readonly reply: LateReply;
  /** Asks for the repetition of a request that was left unanswered, not put off. */
  readonly again: (seq: number, port: number) => void;
  readonly replyPair: (seq: number, port: number, first: number, second: number) => void;
  /** Called when a replica wants ticks; often. */
  readonly onTickNeeded: () => void;
  /** Called after each step that ends with {@link ReplicaHost.wantsReload}; often. */
  readonly onReloadNeeded: (host: ReplicaHost) => void;
  readonly logger: Logger;
}

/** The device and the counters of the table that a replica works for at the moment. */
export interface HostedLog {
  readonly log: ClusteredLog;
  readonly store: ImageStore | null;
  readonly legs: Legs | null;
  readonly counters: ServedCounters;
}

/**
 * One node's share in a clustered log, with what it stands on: performs the replica's effects, passes the group's events to it, and sends what it has to say. What a
 * request brings about is sent at once; what a batch of messages brings about, once per batch.
 */
export class ReplicaHost {
  readonly uuid: string;
  readonly replica: Replica;
  readonly deviceNumber: string | null;
  readonly #parts: ClusterParts;
  readonly #seats: Map<string, Promise<void>>;
  readonly #group: string;
  readonly #logs = new Set<HostedLog>();
  readonly #effects = new ClusterEffects();
  /** The image's memory, given to each read anew: a replica has one image at a time. Allocated here, as nothing large may be allocated later. */
  readonly #image: Uint8Array | null;
  /** Nodes that have gone from the group since it was joined, as they went. */
  readonly #departures = new Map<number, LeftMember['reason']>();
  #current: HostedLog | null = null;
  #membership: Membership | null = null;
  #sendingSoon = false;
  /** Requests that were left unanswered, the last ones. */
  readonly #silent: { readonly seq: number; readonly port: number }[] = [];
  #hasSuccessor = false;
  #marksUnknown = false;
  #closed = false;
  #writing = false;
  /** Between {@link pause} and {@link resume}: I/O that was asked for meanwhile begins then. */
  #paused = false;
  #deferred: (() => void)[] = [];
  #writeFailing = false;
  #legsFailing = false;
  #lastTickMs = -1;
  #lastWarning: string | null = null;
  /** When the group was asked to let this node in; null while it takes part, or is not to. */
  #joiningSinceMs: number | null = null;
  #joinSeconds: number | null = null;
  /** The snapshot that is on its way to this node: who sends it, and since when. */
  #snapshot: { readonly donor: number; readonly sinceMs: number } | null = null;
  #snapshotsTaken = 0;
  #snapshotSeconds: number | null = null;
  /** Of the present membership. */
  #refusedMessages = 0;

  constructor(init: {
    uuid: string;
    parameters: LogParameters;
    deviceNumber: string | null;
    blockBytes: number;
    parts: ClusterParts;
    /** What outlives this process; null: nothing does. */
    kept?: KeptReplica | null;
    /** By the name of a group: when this process is out of it. */
    seats: Map<string, Promise<void>>;
  }) {
    const { parts, parameters, blockBytes, deviceNumber, kept = null } = init;
    const { bootId, lazyClear } = parts;
    this.uuid = init.uuid;
    this.deviceNumber = deviceNumber;
    this.#parts = parts;
    this.#seats = init.seats;
    this.#group = groupNameOf(init.uuid);
    this.replica = new Replica({ parameters, bootId, lazyClear, blockBytes, deviceNumber, kept });
    const { image } = this.replica;
    this.#image = image === null ? null : parts.allocateImage(image.imageBytes);
  }

  get logCount(): number {
    return this.#logs.size;
  }

  /** Messages that the group has not taken yet: more than a few say that a member is slow. */
  get waitingMessages(): number {
    return this.#membership?.waitingCount ?? 0;
  }

  /** Nodes whose process, or all of them, ended or was cut off, and did not leave the group: dead as far as is known. */
  get vanished(): number[] {
    return [...this.#departures].filter(([, reason]) => reason !== LeaveReason.LEAVE).map(([node]) => node);
  }

  /** How long it took the last time to be let into the group and to take part. */
  get joinSeconds(): number | null {
    return this.#joinSeconds;
  }

  /** How long the last snapshot took that this node took over: from its donor's first announcement. Null before. */
  get snapshotSeconds(): number | null {
    return this.#snapshotSeconds;
  }

  /** Some requests are to be answered when there is an answer. */
  get owes(): boolean {
    return this.#silent.length > 0;
  }

  /** A write to the log device is under way. */
  get isWriting(): boolean {
    return this.#writing;
  }

  /** Whether another replica of this log, with another geometry or device, may take its place when it is suspended. */
  noteSuccessor(there: boolean): void {
    this.#hasSuccessor = there;
    this.#look();
  }

  add(log: HostedLog): void {
    this.#logs.add(log);
    this.#current ??= log;
  }

  /** This table's device is used from now on: it is being resumed. `reconnected`: its kernel has used it before, and marked regions that nobody here knows. */
  use(log: HostedLog, reconnected: boolean): void {
    this.#current = log;
    log.legs?.invalidate();
    if (reconnected && !this.#marksUnknown) {
      this.#parts.logger.warn(
        { uuid: this.uuid },
        'the kernel was using this log before this daemon started: every region counts as marked by this node until its table is reloaded, or the mirror suspended and resumed',
      );
    }
    this.#marksUnknown = reconnected;
  }

  /** Whether a reload of this node's table would do good: the group waits for it, or nobody knows what the kernel has marked. */
  get wantsReload(): boolean {
    const { member, state, mirror, operational } = this.replica;
    if (member === null || state === null || !operational || mirror !== 'live') return false;
    return this.#marksUnknown || state.needReload.has(member.self.nodeId);
  }

  /** A table of the log is gone. With the last one this node gives the log up. */
  remove(log: HostedLog): void {
    this.#logs.delete(log);
    if (this.#logs.size === 0) this.yieldSeat();
    if (this.#current === log) this.#current = [...this.#logs].at(-1) ?? null;
  }

  /** The process ends, or something else serves the table. With the last one: for the group that is a daemon's death, as kernels go on with what they believe. */
  release(log: HostedLog): void {
    this.#logs.delete(log);
    if (this.#logs.size === 0) void this.close();
    else if (this.#current === log) this.#current = [...this.#logs].at(-1) ?? null;
  }

  /** Leaves the group. A later RESUME joins it again. */
  yieldSeat(): void {
    this.#step((effects) => this.replica.abandon(effects));
  }

  /** The log is given up, and no event of it counts any more. */
  dispose(): void {
    this.#closed = true;
  }

  /** No I/O begins from now on: another process may be about to do it. What the group says is still heard. */
  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    for (const begin of this.#deferred.splice(0)) begin();
  }

  /**
   * For good: another process goes on with the log, and joins its group. Resolves when this one is out of it, for the group as by its death.
   */
  async close(): Promise<void> {
    this.#closed = true;
    const membership = this.#membership;
    this.#membership = null;
    await membership?.close();
  }

  /** Begins at once, or when {@link resume} says so. */
  #begin(io: () => void): void {
    if (this.#paused) this.#deferred.push(io);
    else io();
  }

  /** Serves a request of one of its tables' kernel; the reply goes to `reply`. */
  request(log: ClusteredLog, view: FrameView, port: number, reply: Effects): void {
    const effects = this.#effects;
    effects.reset();
    log.request(view, port, effects);
    reply.reply = effects.reply;
    reply.errno = effects.errno;
    reply.first = effects.first;
    reply.second = effects.second;
    reply.text = effects.text;
    reply.destroyed = effects.destroyed;
    if (effects.reply === ReplyKind.SILENT && !this.#canAnswer) this.#unanswered(view.seq, port);
    this.#perform(effects);
    this.#send();
  }

  /** Once per instant, however many tables there are. */
  tick(nowMs: number): void {
    if (nowMs === this.#lastTickMs) return;
    this.#lastTickMs = nowMs;
    this.#step((effects) => this.replica.tick(nowMs, effects));
  }

  #step(run: (effects: ClusterEffects) => void): void {
    if (this.#closed) return;
    this.#effects.reset();
    run(this.#effects);
    this.#perform(this.#effects);
    this.#send();
  }

  /** As a step, but what is to be said goes out when the group's whole batch was heard: one acknowledgement answers all of it. */
  #event(run: (effects: ClusterEffects) => void): void {
    this.#effects.reset();
    run(this.#effects);
    this.#perform(this.#effects);
    if (this.#sendingSoon) return;
    this.#sendingSoon = true;
    setImmediate(() => {
      this.#sendingSoon = false;
      this.#send();
    });
  }

  #send(): void {
    const messages = this.replica.takeOutbox();
    if (messages.length > 0) this.#membership?.send(messages);
  }

  #perform(effects: ClusterEffects): void {
    const { late, pairs } = effects;
    // Before anybody hears of it.
    if (!this.#closed) this.replica.keep();
    const counters = this.#current?.counters;
    if (counters !== undefined) counters.lateReplies += late.count + pairs.length;
    for (let i = 0; i < late.count; i++) {
      this.#parts.reply(late.seq[i] as number, late.port[i] as number, late.errno[i] as number);
    }
    for (const { seq, port, first, second } of pairs) this.#parts.replyPair(seq, port, first, second);
    if (effects.warning !== null) this.#warn(effects.warning);
    if (effects.leave) this.#leave();
    if (effects.join) this.#join();
    if (effects.write) this.#begin(() => this.#write());
    if (effects.readImage) this.#begin(() => this.#readImage());
    if (effects.flushLegs) this.#begin(() => this.#flushLegs());
    this.#look();
  }

  /** There is no true answer at the moment: the kernel is asked to ask again when there is, instead of after 15 s. */
  #unanswered(seq: number, port: number): void {
    if (this.#silent.length >= SILENT_MAX) this.#silent.shift();
    this.#silent.push({ seq, port });
  }

  /** Whatever its kernel asks has a true answer. */
  get #canAnswer(): boolean {
    return this.replica.operational && this.replica.imageShowsGivenUp;
  }

  /** What follows from where the replica stands now. */
  #look(): void {
    const { replica } = this;
    if (this.#silent.length > 0 && this.#canAnswer) {
      for (const { seq, port } of this.#silent.splice(0)) this.#parts.again(seq, port);
    }
    if (this.#joiningSinceMs !== null && replica.member?.phase === 'active') {
      this.#joinSeconds = (performance.now() - this.#joiningSinceMs) / 1000;
      this.#joiningSinceMs = null;
    }
    this.#timeSnapshot();
    if (replica.needsTick) this.#parts.onTickNeeded();
    if (this.wantsReload) this.#parts.onReloadNeeded(this);
    if (this.#isToYield) {
      queueMicrotask(() => {
        if (this.#isToYield) this.yieldSeat();
      });
    }
  }

  /** After every request and message: the clock is asked only where a snapshot begins or ends. */
  #timeSnapshot(): void {
    const { member } = this.replica;
    const donor = member?.donor ?? 0;
    const taken = member?.counters.snapshotsTaken ?? 0;
    if (donor === (this.#snapshot?.donor ?? 0) && taken === this.#snapshotsTaken) return;
    const nowMs = performance.now();
    // A member that joins anew counts from 0.
    if (this.#snapshot !== null && taken > this.#snapshotsTaken)
      this.#snapshotSeconds = (nowMs - this.#snapshot.sinceMs) / 1000;
    this.#snapshotsTaken = taken;
    if (donor === (this.#snapshot?.donor ?? 0)) return;
    this.#snapshot = donor === 0 ? null : { donor, sinceMs: nowMs };
  }

  get #isToYield(): boolean {
    return this.#hasSuccessor && this.replica.mirror === 'suspended' && this.#membership !== null;
  }

  #warn(warning: string): void {
    // A group that cannot be joined is tried every second.
    const level = warning === this.#lastWarning ? 'debug' : 'error';
    this.#lastWarning = warning;
    this.#parts.logger[level]({ uuid: this.uuid }, warning);
  }

  // The group

  #join(): void {
    this.#joiningSinceMs = performance.now();
    this.#departures.clear();
    this.#membership?.close();
    const before = this.#seats.get(this.#group) ?? Promise.resolve();
    const { joinGroup, logger } = this.#parts;
    const membership: Membership = new Membership(this.#group, joinGroup, before, {
      joined: (self) => {
        logger.info({ uuid: this.uuid, group: this.#group, nodeId: self.nodeId }, 'group joined');
        this.replica.joined(self, randomInt(1, NONCE_END));
        this.#lastWarning = null;
      },
      confchg: (members, left, joined) => {
        for (const { nodeId, reason } of left) this.#departures.set(nodeId, reason);
        for (const { nodeId } of joined) this.#departures.delete(nodeId);
        this.#event((effects) => this.replica.confchg(members, left, joined, effects));
      },
      ring: (ring, nodes, quorate) => {
        logger.info({ uuid: this.uuid, ring, nodes, quorate }, 'the ring of the group');
        this.#event((effects) => this.replica.ringChanged(ring, nodes, quorate, effects));
      },
      deliver: (sender, bytes) => {
        this.#event((effects) => this.replica.deliver(sender, bytes, effects));
        this.#noteRefused(sender);
      },
      lost: (error) => {
        if (this.#membership === membership) this.#membership = null;
        const what = `this node is out of the log's group, and writes to the mirror may wait, until it can join again: ${error.message}`;
        this.#step((effects) => this.replica.lostGroup(effects, what));
      },
    });
    this.#membership = membership;
    const { over } = membership;
    this.#seats.set(this.#group, over);
    over.then(() => {
      if (this.#seats.get(this.#group) === over) this.#seats.delete(this.#group);
    });
  }

  /** What is no message of this log is counted by the member, and has no effect; the first one of a membership is worth a line. */
  #noteRefused({ nodeId, pid }: GroupMember): void {
    const counters = this.replica.member?.counters;
    const refused = counters === undefined ? 0 : counters.unreadable + counters.malformed;
    if (refused > 0 && this.#refusedMessages === 0) {
      this.#parts.logger.warn(
        { uuid: this.uuid, group: this.#group, nodeId, pid },
        'a message in the group is none that this version of the daemon knows: it is ignored, and so are others of the kind; the status counts them',
      );
    }
    this.#refusedMessages = refused;
  }

  #leave(): void {
    this.#joiningSinceMs = null;
    this.#membership?.leave();
    this.#membership = null;
  }

  // I/O

  #write(): void {
    const keeper = this.replica.image?.keeper;
    this.#writing = true;
    const { store, counters } = this.#current ?? { store: null, counters: null };
    if (keeper == null || store === null) {
      setImmediate(() => this.#written(new Error('no table of the log is left')));
      return;
    }
    if (counters !== null) {
      counters.writes++;
      for (let i = 0; i < keeper.runCount; i++) counters.bytesWritten += keeper.runs[2 * i + 1] as number;
    }
    store.writeRuns(keeper.image, keeper.runs, keeper.runCount, (error) => this.#written(error));
  }

  #written(error: Error | null): void {
    const about = { uuid: this.uuid, device: this.deviceNumber };
    this.#writing = false;
    if (error !== null && !this.#writeFailing) {
      this.#parts.logger.error(
        { ...about, err: error },
        'log device cannot be written: the kernels of all nodes are told so at every FLUSH that needs it; repair the device, then reload the tables',
      );
    } else if (error === null && this.#writeFailing) {
      this.#parts.logger.warn(about, 'log device can be written again');
    }
    this.#writeFailing = error !== null;
    this.#step((effects) => this.replica.written(error === null ? 0 : Errno.EIO, effects));
  }

  #readImage(): void {
    const image = this.#image as Uint8Array;
    const store = this.#current?.store ?? null;
    this.#current?.legs?.invalidate();
    if (store === null) {
      setImmediate(() => this.#imageRead(new Error('no table of the log is left')));
      return;
    }
    store.readImage(image, (error) => this.#imageRead(error));
  }

  #imageRead(error: Error | null): void {
    if (error !== null) {
      this.#parts.logger.error(
        { uuid: this.uuid, device: this.deviceNumber, err: error },
        'log device cannot be read: what only it knows of is taken to be out of sync, and is copied; repair the device, then reload the tables',
      );
    }
    this.#step((effects) =>
      this.replica.imageRead(this.#image as Uint8Array, error === null ? 0 : Errno.EIO, effects),
    );
  }

  #flushLegs(): void {
    const { legs, counters } = this.#current ?? { legs: null, counters: null };
    if (counters !== null) counters.legFlushes++;
    // A core log names no device from which the legs could be found, and promises nothing after a crash of all nodes.
    if (legs === null) setImmediate(() => this.#legsFlushed(null));
    else legs.flush((error) => this.#legsFlushed(error));
  }

  #legsFlushed(error: Error | null): void {
    if (error !== null) {
      const { legs, counters } = this.#current ?? { legs: null, counters: null };
      legs?.invalidate();
      if (counters !== null) counters.legFlushFailures++;
      if (!this.#legsFailing) {
        this.#parts.logger.warn(
          { uuid: this.uuid, err: error },
          'legs cannot be flushed: cleared regions stay dirty on the log, which costs their resync after a crash and nothing else',
        );
      }
    }
    this.#legsFailing = error !== null;
    this.#step((effects) => this.replica.legsFlushed(error === null, effects));
  }
}

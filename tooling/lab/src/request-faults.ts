/** Faults of single requests, for `faulty-singled`: which request each strikes, and what became of its repetition. */
import type { FrameView } from '@dmlog/protocol';

/** Strikes the `nth` request of its type (1 is the first), once. */
export interface RequestFault {
  readonly type: number;
  readonly nth: number;
  /** Counts and strikes requests of logs with this uuid only. Default: of all logs. */
  readonly uuid?: string;
}

export const RequestFaultKinds = ['loseReply', 'loseRequest', 'unknown'] as const;
export type RequestFaultKind = (typeof RequestFaultKinds)[number];

/** One fault or many of each kind; many strike independently of each other. */
export type RequestFaults = {
  readonly [K in RequestFaultKind]?: RequestFault | readonly RequestFault[];
};

interface Armed {
  readonly kind: RequestFaultKind;
  readonly fault: RequestFault;
  seen: number;
  struckSeq: number;
  struckLuid: string;
  struckPayload: string;
  repeated: boolean;
}

/** What scenarios find in the daemon's lines about a fault that has struck (`fault struck`) and the next request like it (`fault passed`). */
export interface FaultLine {
  readonly msg: 'fault struck' | 'fault passed';
  readonly kind: RequestFaultKind;
  readonly type: number;
  readonly uuid: string;
  /** Of `fault passed`: the request that followed has another seq … */
  readonly newSeq?: boolean;
  /** … names the same log … */
  readonly sameLog?: boolean;
  /** … and carries the same payload. */
  readonly samePayload?: boolean;
}

export class RequestFaultPlan {
  readonly #armed: Armed[];
  readonly #arena: Uint8Array;
  readonly #say: (line: FaultLine) => void;

  /** @param arena - where the frames stand that `strike` is shown. */
  constructor(faults: RequestFaults, arena: Uint8Array, say: (line: FaultLine) => void) {
    this.#arena = arena;
    this.#say = say;
    this.#armed = RequestFaultKinds.flatMap((kind) =>
      [faults[kind] ?? []].flat().map((fault) => arm(kind, fault as RequestFault)),
    );
  }

  /** The fault that the request in `view` suffers, or null. Call once for every request. */
  strike(view: FrameView): RequestFaultKind | null {
    let found: RequestFaultKind | null = null;
    for (const armed of this.#armed) {
      const { fault, kind } = armed;
      if (armed.repeated || fault.type !== view.type) continue;
      const uuid = view.uuidText();
      if (fault.uuid !== undefined && fault.uuid !== uuid) continue;
      armed.seen++;
      if (armed.seen === fault.nth) {
        armed.struckSeq = view.seq;
        armed.struckLuid = luidOf(view);
        armed.struckPayload = this.#payloadOf(view);
        this.#say({ msg: 'fault struck', kind, type: view.type, uuid });
        found ??= kind;
      } else if (armed.seen === fault.nth + 1) {
        armed.repeated = true;
        const newSeq = view.seq !== armed.struckSeq;
        const sameLog = luidOf(view) === armed.struckLuid;
        const samePayload = this.#payloadOf(view) === armed.struckPayload;
        this.#say({ msg: 'fault passed', kind, type: view.type, uuid, newSeq, sameLog, samePayload });
      }
    }
    return found;
  }

  #payloadOf(view: FrameView): string {
    const { dataOffset, dataSize } = view;
    return Buffer.from(this.#arena.subarray(dataOffset, dataOffset + dataSize)).toString('hex');
  }
}

function arm(kind: RequestFaultKind, fault: RequestFault): Armed {
  return { kind, fault, seen: 0, struckSeq: 0, struckLuid: '', struckPayload: '', repeated: false };
}

function luidOf(view: FrameView): string {
  return `${view.luidHigh}:${view.luidLow}`;
}

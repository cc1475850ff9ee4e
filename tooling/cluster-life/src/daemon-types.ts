export interface StartOptions {
  /** 32 hexadecimal digits. */
  readonly bootId: string;
  readonly runtimeDir: string;
  readonly lazyClearMs: number;
  /** Whether the daemon reloads tables by itself. */
  readonly reload: 'dmsetup' | 'off';
  /** As `dmsetup table` lists them, without names. */
  readonly tables: readonly string[];
  /** Path of the unix socket on which it serves its status page; null: it serves none. */
  readonly page: string | null;
}

export interface LogRequest {
  readonly type: number;
  readonly uuid: string;
  readonly luid: number;
  readonly words?: readonly number[];
  /** Instead of `words`. */
  readonly text?: string;
}

export interface LogAnswer {
  /** 0 or positive. */
  readonly errno: number;
  readonly values: readonly number[];
}

/** What a member's state was after an event: the same for all members at one position after one ring. */
export interface Stated {
  readonly uuid: string;
  readonly ring: string;
  readonly position: number;
  readonly digest: string;
  /** It is the state that this process stated last, some messages or rings later; not one that it founded or took over since. */
  readonly isContinued: boolean;
}

/** How a daemon sees a log at one instant. */
export interface View {
  readonly phase: string;
  readonly mirror: string;
  readonly operational: boolean;
  readonly quorate: boolean;
  readonly agreedRing: { readonly nodeId: number; readonly seq: number } | null;
  readonly position: number;
  readonly hash: string;
  readonly inSync: number;
  /** Nodes that the state knows. */
  readonly members: number;
  readonly writer: number;
  readonly needReload: readonly number[];
  /** Stale and given-up regions. */
  readonly unclear: number;
  /** Regions that are not clean, where they were asked for. */
  readonly dirty: readonly number[];
  readonly counters: Readonly<Record<string, number>>;
}

export type DaemonEvent =
  | { readonly kind: 'line'; readonly level: number; readonly text: string }
  | { readonly kind: 'reload'; readonly uuid: string };

import { Effects } from '@dmlog/log';

/** The effects of a replicated log: those of every log, and what a group asks for. */
export class ClusterEffects extends Effects {
  /** Join the log's group, then call `joined`. */
  join = false;
  /** Leave the group. No more events of it are wanted. */
  leave = false;
  /** Late replies with two numbers (GET_RESYNC_WORK). */
  readonly pairs: {
    readonly seq: number;
    readonly port: number;
    readonly first: number;
    readonly second: number;
  }[] = [];
  /** Something that an operator should know, or null. */
  warning: string | null = null;

  override reset(): void {
    super.reset();
    this.join = false;
    this.leave = false;
    this.pairs.length = 0;
    this.warning = null;
  }
}

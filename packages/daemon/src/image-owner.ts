import type { LogRegistry } from '@dmlog/log';
import type { Served } from './served.js';

/** Whose image it is when a log is resumed. */
export const ImageVerdict = {
  /** The resumed log's. */
  OURS: 0,
  /** That of another table's log: the resumed one belongs to a table that is on its way out, or not in use yet, and must leave the image alone. */
  ANOTHERS: 1,
  /** Not yet ours: a write of the other log is under way. The kernel is to ask again. */
  LATER: 2,
} as const;
export type ImageVerdict = (typeof ImageVerdict)[keyof typeof ImageVerdict];

/**
 * Two tables of one uuid share a log device, and the kernel suspends one before it resumes the other. But a POSTSUSPEND that finds no daemon is not
 * repeated: a restarted one may hold the old table's log for live. Of two live logs on one device the later one is right, as a table that was
 * exchanged is never resumed again.
 *
 * Its RESUME alone does not tell that the tables were exchanged: a table that is only loaded asks for the sync count (wakeup_mirrord() at the end of
 * mirror_ctr()), and where no daemon hears that, the kernel's reconnect resumes its log, while the other table is in use. What the loaded one does
 * not do is to ask of regions: with another log that seems live, a first RESUME counts only once its log `isUsed`, that is, was asked of regions. The
 * kernel, told that the log is unknown, resumes it once more.
 */
export function settleImage(logs: LogRegistry<Served>, resumed: Served, isUsed: boolean): ImageVerdict {
  const isFirst = resumed.log.state === 'constructed';
  if (!isFirst && resumed.log.state !== 'suspended') return ImageVerdict.OURS;
  for (const [, other] of logs.entries()) {
    if (
      other.imageKeeper === resumed.imageKeeper ||
      other.device !== resumed.device ||
      other.log.state !== 'live'
    )
      continue;
    if (!isFirst || !isUsed) return ImageVerdict.ANOTHERS;
    if (!other.giveUpImage()) return ImageVerdict.LATER;
  }
  return ImageVerdict.OURS;
}

import type { LogRegistry } from '@dmlog/log';
import type { Served } from './served.js';

/** Whose image it is when a log is resumed. */
export const ImageVerdict = {
  /** The resumed log's. */
  OURS: 0,
  /** A later table's: the resumed log belongs to a table that is on its way out, and must leave the image alone. */
  ANOTHERS: 1,
  /** Not yet ours: a write of the other log is under way. The kernel is to ask again. */
  LATER: 2,
} as const;
export type ImageVerdict = (typeof ImageVerdict)[keyof typeof ImageVerdict];

/**
 * Two tables of one uuid share a log device, and the kernel suspends one before it resumes the other. But a POSTSUSPEND that finds no daemon is not
 * repeated: a restarted one may hold the old table's log for live. Of two live logs on one device it is always the one resumed
 * for the first time that is right, as a table that was exchanged is never resumed again.
 */
export function settleImage(logs: LogRegistry<Served>, resumed: Served): ImageVerdict {
  const isFirst = resumed.log.state === 'constructed';
  if (!isFirst && resumed.log.state !== 'suspended') return ImageVerdict.OURS;
  for (const [, other] of logs.entries()) {
    if (
      other.imageKeeper === resumed.imageKeeper ||
      other.device !== resumed.device ||
      other.log.state !== 'live'
    )
      continue;
    if (!isFirst) return ImageVerdict.ANOTHERS;
    if (!other.giveUpImage()) return ImageVerdict.LATER;
  }
  return ImageVerdict.OURS;
}

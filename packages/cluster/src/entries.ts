/**
 * Entries: what an ENTRIES message consists of. Each is a header of 8 bytes (u8 type, 3 bytes 0, u32 length of the body) and a body of u32 words.
 * Every member applies them in order; a message with one bad entry is ignored as a whole, by all alike.
 */
import type { RegionBitmap } from '@dmlog/bitmap';
import { getU32, setU32 } from './bytes.js';

export const EntryType = {
  /** Regions that the sender's kernel is going to write. */
  MARK: 1,
  /** Regions that it has not been writing for a while; the legs' caches were flushed since. */
  UNMARK: 2,
  /** Regions leased to the sender that its kernel has recovered. */
  SYNCED: 3,
  /** Regions in which a leg failed, while writing or recovering. */
  FAILED: 4,
  /** (want, wish + 1): lease regions to the sender until it has `want`, region `wish` first; wish + 1 is 0 for no wish. */
  LEASE: 5,
  /** The sender gives its leases back. */
  RELEASE: 6,
  /** The sender has the state: 16 bytes of boot id. Its mirror counts as suspended until RESUMED or RECONNECTED. */
  READY: 7,
  /** The sender's mirror is live, its kernel asks about every region anew. */
  RESUMED: 8,
  /** The sender's mirror is suspended; (0), or (1) if its kernel may write regions on one leg again when the same table is resumed. */
  SUSPENDED: 9,
  /** The sender's mirror was live all the time, or is so again with a table that writes regions on one leg; (0), or (1) if its marks are not known. */
  RECONNECTED: 10,
  /** Boot id, then runs: regions that a member brings along from a history of its own as marked by its kernel. */
  BROUGHT_MARKS: 11,
  /** Boot id, then runs: regions that are not in sync in that history. */
  BROUGHT_DOUBTS: 12,
  /** Runs: regions that are dirty on the image and clean in the state; by the writer that has taken the image over. */
  FOUND_DIRTY: 13,
  /** Node id and boot id of a third node, then runs: what that node's kernel may be writing, as far as that history knows. */
  BROUGHT_OTHERS: 14,
  /** Boot id, then runs: regions that its kernel may be recovering, or writes on one leg only. */
  BROUGHT_GIVEN_UP: 15,
  /** The sender, who is the writer, writes no more: the participant with the lowest node id is the writer from here on. */
  HANDOVER: 16,
  /** Boot id, then runs: regions that are in sync in that history, which its kernel may have been told and does not ask again. */
  BROUGHT_BELIEFS: 17,
  /** The sender has waited for a while for somebody to vouch for its marks: whoever hears this states its position. */
  VOUCH: 18,
  /** A write to the image has ended that the sender had begun as the writer, and is not any more. */
  WROTE_LATE: 19,
} as const;
export type EntryType = (typeof EntryType)[keyof typeof EntryType];

export interface Entry {
  readonly type: EntryType;
  readonly words: Uint32Array;
}

const ENTRY_HEADER_BYTES = 8;
export const BOOT_ID_WORDS = 4;

/** Words of one entry at most, about. */
export const WORDS_PER_ENTRY_MAX = 8192;

/** Bytes of entries in one message at most: two full entries would be more than a group should carry at once (facts: chunks of 64 KiB). */
const ENTRY_BYTES_PER_MESSAGE_MAX = 48 * 1024;

export function encodeEntries(entries: readonly Entry[]): Uint8Array {
  let length = 0;
  for (const { words } of entries) length += ENTRY_HEADER_BYTES + words.byteLength;
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const { type, words } of entries) {
    bytes[at] = type;
    setU32(bytes, at + 4, words.byteLength);
    at += ENTRY_HEADER_BYTES;
    for (let i = 0; i < words.length; i++) setU32(bytes, at + 4 * i, words[i] as number);
    at += words.byteLength;
  }
  return bytes;
}

/** The same entries in the same order, as many messages as they need. */
export function packEntries(entries: readonly Entry[]): Entry[][] {
  const packs: Entry[][] = [];
  let bytes = Number.POSITIVE_INFINITY;
  for (const one of entries) {
    const more = ENTRY_HEADER_BYTES + one.words.byteLength;
    if (bytes + more > ENTRY_BYTES_PER_MESSAGE_MAX) {
      packs.push([]);
      bytes = 0;
    }
    packs.at(-1)?.push(one);
    bytes += more;
  }
  return packs;
}

/** All entries, checked for a log of `regionCount` regions; null if one of them is bad. */
export function decodeEntries(bytes: Uint8Array, regionCount: number): Entry[] | null {
  const entries: Entry[] = [];
  for (let at = 0; at < bytes.byteLength; ) {
    if (at + ENTRY_HEADER_BYTES > bytes.byteLength) return null;
    const type = bytes[at] as number;
    const length = getU32(bytes, at + 4);
    at += ENTRY_HEADER_BYTES;
    if (length % 4 !== 0 || at + length > bytes.byteLength) return null;
    const words = new Uint32Array(length / 4);
    for (let i = 0; i < words.length; i++) words[i] = getU32(bytes, at + 4 * i);
    at += length;
    if (!isValid(type, words, regionCount)) return null;
    entries.push({ type: type as EntryType, words });
  }
  return entries;
}

function isValid(type: number, words: Uint32Array, regionCount: number): boolean {
  switch (type) {
    case EntryType.MARK:
    case EntryType.UNMARK:
    case EntryType.SYNCED:
    case EntryType.FAILED:
      return words.length > 0 && words.every((region) => region < regionCount);
    case EntryType.LEASE:
      return words.length === 2 && (words[1] as number) <= regionCount;
    case EntryType.RELEASE:
    case EntryType.HANDOVER:
    case EntryType.VOUCH:
    case EntryType.WROTE_LATE:
    case EntryType.RESUMED:
      return words.length === 0;
    case EntryType.READY:
      return words.length === BOOT_ID_WORDS;
    case EntryType.SUSPENDED:
    case EntryType.RECONNECTED:
      return words.length === 1;
    case EntryType.BROUGHT_MARKS:
    case EntryType.BROUGHT_DOUBTS:
    case EntryType.BROUGHT_GIVEN_UP:
    case EntryType.BROUGHT_BELIEFS:
      return words.length >= BOOT_ID_WORDS && areRuns(words.subarray(BOOT_ID_WORDS), regionCount);
    case EntryType.BROUGHT_OTHERS:
      return words.length > BOOT_ID_WORDS && areRuns(words.subarray(1 + BOOT_ID_WORDS), regionCount);
    case EntryType.FOUND_DIRTY:
      return areRuns(words, regionCount);
    default:
      return false;
  }
}

function areRuns(words: Uint32Array, regionCount: number): boolean {
  if (words.length % 2 !== 0) return false;
  for (let i = 0; i < words.length; i += 2) {
    const [from, length] = [words[i] as number, words[i + 1] as number];
    if (length === 0 || from + length > regionCount) return false;
  }
  return true;
}

const NO_WORDS = new Uint32Array(0);

export function entry(type: EntryType, words: ArrayLike<number> = NO_WORDS): Entry {
  return { type, words: words instanceof Uint32Array ? words : Uint32Array.from(words) };
}

/** One entry of `type` for every so many regions. */
export function regionEntries(type: EntryType, regions: ArrayLike<number>): Entry[] {
  const entries: Entry[] = [];
  for (let from = 0; from < regions.length; from += WORDS_PER_ENTRY_MAX) {
    const to = Math.min(regions.length, from + WORDS_PER_ENTRY_MAX);
    const words = new Uint32Array(to - from);
    for (let i = from; i < to; i++) words[i - from] = regions[i] as number;
    entries.push({ type, words });
  }
  return entries;
}

/** The set bits of `bitmap` as entries of (first region, length) pairs, `head` before them in each. */
export function runEntries(type: EntryType, bitmap: RegionBitmap, head: readonly number[] = []): Entry[] {
  const entries: Entry[] = [];
  let words = [...head];
  for (let from = bitmap.nextOne(0); from >= 0; ) {
    const zero = bitmap.nextZero(from);
    const to = zero < 0 ? bitmap.regionCount : zero;
    words.push(from, to - from);
    from = bitmap.nextOne(to);
    if (from >= 0 && words.length < WORDS_PER_ENTRY_MAX) continue;
    entries.push(entry(type, words));
    words = [...head];
  }
  return entries;
}

/** Calls `each` for every region of the runs. */
export function forRuns(words: Uint32Array, each: (region: number) => void): void {
  for (let i = 0; i < words.length; i += 2) {
    const from = words[i] as number;
    const to = from + (words[i + 1] as number);
    for (let region = from; region < to; region++) each(region);
  }
}

export function bootIdWords(bootId: string): number[] {
  return [0, 8, 16, 24].map((at) => Number.parseInt(bootId.slice(at, at + 8), 16));
}

export function bootIdText(words: Uint32Array): string {
  return Array.from(words.subarray(0, BOOT_ID_WORDS), (word) => word.toString(16).padStart(8, '0')).join('');
}

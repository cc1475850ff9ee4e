/**
 * The runtime state of one log as a file. Pure: bytes to values and back.
 *
 * | offset | size | field    | type   | note                                                                          |
 * |      0 |    8 | magic    | char[] | "DMLOGST" and a NUL                                                           |
 * |      8 |    4 | version  | u32    | {@link STATE_VERSION}; says how identity, control and body are to be read     |
 * |     12 |    4 | length   | u32    | bytes of the identity                                                         |
 * |     16 |    4 | crc      | u32    | CRC-32 of bytes 0…15 and of the identity                                      |
 * |     20 |    … | identity | JSON   | {@link LogIdentity} in UTF-8; zeros follow up to 3071                         |
 * |   3072 | 1024 | control  |        | the log's records and seals, @dmlog/log log-memory.ts                         |
 * |   4096 |    … | body     |        | the log's bitmaps; absent until the first RESUME                              |
 *
 * The identity is written once, before the file gets its name, and never changed. Control and body are changed in place, through shared memory:
 * whole or refused by their own means. Host byte order: the file does not leave the machine, nor its boot.
 */
import { crc32 } from 'node:zlib';
import { CONTROL_BYTES } from '@dmlog/log';
import { z } from 'zod';

export const STATE_VERSION = 1;
/** Identity and control: a page, so that the body begins on one. */
export const HEAD_BYTES = 4096;
export const IDENTITY_AREA_BYTES = HEAD_BYTES - CONTROL_BYTES;

const MAGIC = Buffer.from('DMLOGST\0', 'latin1');
const AT = { version: 8, length: 12, crc: 16, identity: 20 } as const;

const Word = z.number().int().min(0).max(0xffff_ffff);

/** Which log a file is of. Strict: another version's fields mean another version number. */
const LogIdentitySchema = z.strictObject({
  /** /proc/sys/kernel/random/boot_id: a luid, and what the kernel knows of a log, end with the boot. */
  bootId: z.string(),
  uuid: z.string(),
  luidLow: Word,
  luidHigh: Word,
  /** CTR's payload: target length, type and arguments. */
  constructorText: z.string(),
  /** The log was made at a reconnect, without state: its arguments and image are not all believed. */
  reconnected: z.boolean(),
  /** `major:minor` of the log device (a path for a file); null for core logs. */
  device: z.string().nullable(),
  /** Unit of writes to the log device; null for core logs. */
  blockBytes: z.number().int().min(1).nullable(),
});
export type LogIdentity = z.infer<typeof LogIdentitySchema>;

export type DecodedIdentity =
  | { readonly identity: LogIdentity; readonly problem: null }
  | { readonly identity: null; readonly problem: string };

/** The first {@link IDENTITY_AREA_BYTES} bytes of the file. Throws RangeError for an identity that has no room. */
export function encodeIdentity(identity: LogIdentity): Uint8Array {
  const text = Buffer.from(JSON.stringify(identity), 'utf8');
  if (AT.identity + text.byteLength > IDENTITY_AREA_BYTES) {
    throw new RangeError(
      `the identity of the log takes ${text.byteLength} bytes: there is room for ${IDENTITY_AREA_BYTES - AT.identity}`,
    );
  }
  const area = Buffer.alloc(IDENTITY_AREA_BYTES);
  MAGIC.copy(area);
  area.writeUInt32LE(STATE_VERSION, AT.version);
  area.writeUInt32LE(text.byteLength, AT.length);
  text.copy(area, AT.identity);
  area.writeUInt32LE(checksum(area, text.byteLength), AT.crc);
  return area;
}

/** Reads what {@link encodeIdentity} wrote; `problem` says why it cannot be believed. Never throws. */
export function decodeIdentity(bytes: Uint8Array): DecodedIdentity {
  const refuse = (problem: string): DecodedIdentity => ({ identity: null, problem });
  if (bytes.byteLength < IDENTITY_AREA_BYTES) return refuse('it is cut');
  const area = Buffer.from(bytes.buffer, bytes.byteOffset, IDENTITY_AREA_BYTES);
  if (!area.subarray(0, MAGIC.byteLength).equals(MAGIC)) return refuse('it is no state of a log');
  const version = area.readUInt32LE(AT.version);
  if (version !== STATE_VERSION)
    return refuse(`it has version ${version}, this daemon knows ${STATE_VERSION}`);
  const length = area.readUInt32LE(AT.length);
  if (length > IDENTITY_AREA_BYTES - AT.identity) return refuse('its identity has an impossible length');
  if (area.readUInt32LE(AT.crc) !== checksum(area, length)) return refuse('its identity is damaged');
  if (area.subarray(AT.identity + length).some((byte) => byte !== 0))
    return refuse('its identity is damaged');
  try {
    const text = area.toString('utf8', AT.identity, AT.identity + length);
    return { identity: LogIdentitySchema.parse(JSON.parse(text)), problem: null };
  } catch {
    return refuse('its identity makes no sense');
  }
}

function checksum(area: Buffer, length: number): number {
  return crc32(area.subarray(AT.identity, AT.identity + length), crc32(area.subarray(0, AT.crc)));
}

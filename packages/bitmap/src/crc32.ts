/** CRC-32 as in IEEE 802.3 and zlib (reflected polynomial 0xEDB88320): four tables, four bytes a step. */
const POLYNOMIAL = 0xedb88320;
const TABLE_ENTRIES = 256;

function buildTables(): Int32Array {
  const tables = new Int32Array(4 * TABLE_ENTRIES);
  for (let n = 0; n < TABLE_ENTRIES; n++) {
    let c = n;
    for (let k = 0; k < 8; k++) c = (c & 1) !== 0 ? (c >>> 1) ^ POLYNOMIAL : c >>> 1;
    tables[n] = c;
  }
  for (let n = TABLE_ENTRIES; n < tables.length; n++) {
    const before = tables[n - TABLE_ENTRIES] as number;
    tables[n] = (before >>> 8) ^ (tables[before & 0xff] as number);
  }
  return tables;
}
const TABLES = /* @__PURE__ */ buildTables();

/** CRC-32 of `bytes[from..to-1]`, continued from `seed` (the CRC of what came before), as an unsigned number. */
export function crc32(bytes: Uint8Array, from = 0, to = bytes.byteLength, seed = 0): number {
  const t = TABLES;
  let c = ~seed;
  let at = from;
  for (; at + 4 <= to; at += 4) {
    c ^=
      (bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24);
    c =
      (t[0x300 + (c & 0xff)] as number) ^
      (t[0x200 + ((c >>> 8) & 0xff)] as number) ^
      (t[0x100 + ((c >>> 16) & 0xff)] as number) ^
      (t[c >>> 24] as number);
  }
  for (; at < to; at++) c = (c >>> 8) ^ (t[(c ^ (bytes[at] as number)) & 0xff] as number);
  return ~c >>> 0;
}

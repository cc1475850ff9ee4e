/**
 * What a shared object asks of the dynamic linker: ELF64, little endian (elf.h).
 *
 * | at | section header (64 bytes), `Elf64_Shdr` | | at | symbol (24 bytes), `Elf64_Sym` |
 * |---:|---|---|---:|---|
 * |  4 | u32 type                                | |  0 | u32 name, in the string table   |
 * | 24 | u64 offset in the file                  | |  6 | u16 section; 0: undefined       |
 * | 32 | u64 bytes                               | |    |                                 |
 * | 40 | u32 index of the string table           | |    |                                 |
 */
export interface SharedObject {
  /** `e_machine`: 62 x86-64, 183 AArch64. */
  readonly machine: number;
  /** Libraries that it names (DT_NEEDED). */
  readonly needed: readonly string[];
  /** Symbols that it takes from whoever has them. */
  readonly undefinedSymbols: readonly string[];
  /** Whether it asks for versions of symbols (SHT_GNU_verneed): then it is bound to one C library. */
  readonly versioned: boolean;
}

const SHT_DYNAMIC = 6;
const SHT_DYNSYM = 11;
const SHT_GNU_VERNEED = 0x6ffffffe;
const DT_NEEDED = 1n;

/** @throws RangeError for a file that is cut; Error for one that is no such file. */
export function readSharedObject(bytes: Uint8Array): SharedObject {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0) !== 0x7f454c46 || bytes[4] !== 2 || bytes[5] !== 1) {
    throw new Error('not a 64-bit little-endian ELF file');
  }
  const start = Number(view.getBigUint64(40, true));
  const size = view.getUint16(58, true);
  const sections = Array.from({ length: view.getUint16(60, true) }, (_, i) => {
    const at = start + i * size;
    return {
      type: view.getUint32(at + 4, true),
      offset: Number(view.getBigUint64(at + 24, true)),
      bytes: Number(view.getBigUint64(at + 32, true)),
      link: view.getUint32(at + 40, true),
    };
  });
  const text = (table: number, offset: number): string => {
    const from = (sections[table]?.offset ?? 0) + offset;
    return new TextDecoder().decode(bytes.subarray(from, bytes.indexOf(0, from)));
  };
  const needed: string[] = [];
  const undefinedSymbols: string[] = [];
  for (const { type, offset, bytes: length, link } of sections) {
    if (type === SHT_DYNAMIC) {
      for (let at = offset; at < offset + length; at += 16) {
        if (view.getBigUint64(at, true) === DT_NEEDED) {
          needed.push(text(link, Number(view.getBigUint64(at + 8, true))));
        }
      }
    }
    if (type === SHT_DYNSYM) {
      for (let at = offset + 24; at < offset + length; at += 24) {
        if (view.getUint16(at + 6, true) === 0) undefinedSymbols.push(text(link, view.getUint32(at, true)));
      }
    }
  }
  const versioned = sections.some(({ type }) => type === SHT_GNU_VERNEED);
  return { machine: view.getUint16(18, true), needed, undefinedSymbols, versioned };
}

import { describe, expect, it } from 'vitest';
import { ConstructorError, parseConstructor, REGION_COUNT_MAX } from '../src/index.js';

describe('parseConstructor', () => {
  it('reads core and disk', () => {
    expect(parseConstructor('16384 core 1024')).toMatchObject({
      kind: 'core',
      device: null,
      regionSizeSectors: 1024,
      regionCount: 16,
      syncMode: 'default',
      argumentText: 'core 1024',
    });
    expect(parseConstructor('16385 disk 254:3 1024 nosync')).toMatchObject({
      kind: 'disk',
      device: '254:3',
      regionCount: 17,
      syncMode: 'nosync',
      argumentText: 'disk 254:3 1024 nosync',
    });
  });

  it('accepts block_on_error as the last argument', () => {
    expect(parseConstructor('16384 disk /dev/l 1024 sync block_on_error').syncMode).toBe('sync');
    expect(parseConstructor('16384 core 1024 block_on_error').syncMode).toBe('default');
  });

  it('accepts clustered types, in both spellings, only where they can be served', () => {
    for (const type of ['clustered-core', 'clustered_core']) {
      expect(parseConstructor(`16384 ${type} 1024`, { clustered: true })).toMatchObject({
        kind: 'core',
        clustered: true,
      });
      expect(() => parseConstructor(`16384 ${type} 1024`)).toThrow(/clusterd/);
    }
    for (const type of ['clustered-disk', 'clustered_disk']) {
      expect(() => parseConstructor(`16384 ${type} /dev/l 1024`)).toThrow(
        expect.objectContaining({ errno: 95 }),
      );
    }
  });

  it('counts regions up to the last that fits', () => {
    expect(parseConstructor(`${2 * REGION_COUNT_MAX} core 2`).regionCount).toBe(REGION_COUNT_MAX);
    expect(() => parseConstructor(`${2 * REGION_COUNT_MAX + 1} core 2`)).toThrow(/larger region size/);
  });

  it.each([
    ['', '', 'length'],
    ['x core 1024', 'x', 'length'],
    ['0 core 1024', '0', 'length'],
    ['-1 core 1024', '-1', 'length'],
    ['16384', '', 'type'],
    ['16384 cor 1024', 'cor', 'type'],
    ['16384 toString 1024', 'toString', 'type'],
    ['16384 core', '', 'arguments'],
    ['16384 core 1024 sync extra', '1024 sync extra', 'arguments'],
    ['16384 disk', '', 'arguments'],
    ['16384 disk /dev/l', '/dev/l', 'arguments'],
    ['16384 disk /dev/l 1024 sync extra', '/dev/l 1024 sync extra', 'arguments'],
    ['16384 core 1000', '1000', 'power of two'],
    ['16384 core 1', '1', 'between'],
    ['16384 core 0', '0', 'between'],
    ['16384 core 32768', '32768', 'between'],
    ['16384 core 1024x', '1024x', 'number of sectors'],
    ['16384 core 0x400', '0x400', 'number of sectors'],
    ['16384 core -1024', '-1024', 'number of sectors'],
    ['16384 core 4294967296', '4294967296', 'below 2^32'],
    ['16384 core 1024 synch', 'synch', 'unrecognised'],
    ['16384 disk /dev/l 1024 SYNC', 'SYNC', 'unrecognised'],
  ])('refuses %j and names the argument', (text, argument, problem) => {
    let error: unknown;
    try {
      parseConstructor(text);
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(ConstructorError);
    expect(error).toMatchObject({ code: 'ERR_CONSTRUCTOR', errno: 22, argument });
    expect((error as Error).message).toContain(problem);
  });
});

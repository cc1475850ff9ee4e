import { describe, expect, it } from 'vitest';
import { TAME_NETWORK } from '../src/group/simulated.js';
import { play, reached } from './member-play.js';

const SEEDS = Number(process.env['DMLOG_MEMBER_SEEDS'] ?? 300);

describe('members over a simulated group', () => {
  it('agree, over any change of a well-behaved group', () => {
    for (let seed = 1; seed <= SEEDS; seed++) {
      try {
        play(seed, TAME_NETWORK);
      } catch (cause) {
        throw new Error(`seed ${seed} (tame): ${cause instanceof Error ? cause.message : cause}`, { cause });
      }
    }
  }, 120_000);

  it('agree, whatever the group does', () => {
    for (let seed = 1; seed <= SEEDS; seed++) {
      try {
        play(seed);
      } catch (cause) {
        throw new Error(`seed ${seed}: ${cause instanceof Error ? cause.message : cause}`, { cause });
      }
    }
  }, 120_000);

  it('have been through everything that can happen to a group', () => {
    console.log(JSON.stringify(reached));
    for (const [what, count] of Object.entries(reached)) expect(count, what).toBeGreaterThan(0);
  });
});

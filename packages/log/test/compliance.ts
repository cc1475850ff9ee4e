import { RequestType } from '@dmlog/protocol';
import { describe, expect, it } from 'vitest';
import { ReplyKind } from '../src/index.js';
import { resumed, type TestHost } from './host.js';

/**
 * What every dirty log must do, whatever its type. `make` builds a log of 16 regions with nothing in sync, `makeNosync` one with everything in sync;
 * neither is resumed.
 */
export function describeDirtyLog(name: string, make: () => TestHost, makeNosync: () => TestHost): void {
  describe(`${name}: compliance`, () => {
    const R = RequestType;

    it('answers GET_REGION_SIZE in sectors, before RESUME', () => {
      expect(make().ask(R.GET_REGION_SIZE)).toMatchObject({ kind: ReplyKind.VALUE, first: 1024 });
    });

    it('answers GET_SYNC_COUNT before RESUME', () => {
      expect(make().ask(R.GET_SYNC_COUNT)).toMatchObject({ kind: ReplyKind.VALUE, first: 0 });
    });

    it('counts all regions as in sync after RESUME under nosync, and never some before', () => {
      const host = makeNosync();
      const before = host.ask(R.GET_SYNC_COUNT).first;
      expect([0, 16]).toContain(before);
      expect(resumed(host).ask(R.GET_SYNC_COUNT).first).toBe(16);
    });

    it.each([R.IN_SYNC, R.IS_CLEAN, R.MARK_REGION, R.CLEAR_REGION, R.IS_REMOTE_RECOVERING])(
      'does not know regions before RESUME (type %i)',
      (type) => {
        expect(make().ask(type, 3).kind).toBe(ReplyKind.UNKNOWN);
      },
    );

    it('hands out each region for recovery once, in order, and then no more', () => {
      const host = resumed(make());
      for (let region = 0; region < 16; region++) {
        expect(host.ask(R.GET_RESYNC_WORK)).toMatchObject({ kind: ReplyKind.PAIR, first: 1, second: region });
        expect(host.ask(R.IN_SYNC, region).first).toBe(0);
        expect(host.ask(R.SET_REGION_SYNC, region, 1).kind).toBe(ReplyKind.ACK);
        expect(host.ask(R.IN_SYNC, region).first).toBe(1);
        expect(host.ask(R.GET_SYNC_COUNT).first).toBe(region + 1);
        expect(host.ask(R.CLEAR_REGION, region).kind).toBe(ReplyKind.ACK);
        expect(host.later(R.FLUSH).errno).toBe(0);
        host.log.checkInvariants();
      }
      expect(host.ask(R.GET_RESYNC_WORK)).toMatchObject({ kind: ReplyKind.PAIR, first: 0 });
    });

    it('counts ranges of regions as it says they are, and nothing before RESUME', () => {
      expect(makeNosync().log.countRegions(0, 16)).toEqual({ inSync: 0, clean: 0 });
      const host = resumed(makeNosync());
      host.ask(R.MARK_REGION, 5);
      host.ask(R.SET_REGION_SYNC, 9, 0);
      expect(host.log.countRegions(0, 16)).toEqual({ inSync: 15, clean: 14 });
      expect(host.log.countRegions(5, 6)).toEqual({ inSync: 1, clean: 0 });
      expect(host.log.countRegions(9, 10)).toEqual({ inSync: 0, clean: 0 });
      expect(host.log.countRegions(10, 16)).toEqual({ inSync: 6, clean: 6 });
    });

    it('hands out the same region when the kernel repeats GET_RESYNC_WORK', () => {
      const host = resumed(make());
      expect(host.ask(R.GET_RESYNC_WORK).second).toBe(0);
      expect(host.ask(R.GET_RESYNC_WORK)).toMatchObject({ first: 1, second: 0 });
    });

    it('does not offer a region again that could not be recovered, until RESUME', () => {
      const host = resumed(make());
      expect(host.ask(R.GET_RESYNC_WORK).second).toBe(0);
      host.ask(R.SET_REGION_SYNC, 0, 0);
      expect(host.ask(R.GET_RESYNC_WORK).second).toBe(1);
      host.ask(R.PRESUSPEND);
      host.later(R.POSTSUSPEND);
      resumed(host);
      expect(host.ask(R.GET_RESYNC_WORK)).toMatchObject({ first: 1, second: 0 });
    });

    it('hints one less than the region count while work remains, then the count', () => {
      const host = resumed(make());
      expect(host.ask(R.IS_REMOTE_RECOVERING, 5)).toMatchObject({
        kind: ReplyKind.PAIR,
        first: 0,
        second: 15,
      });
      for (let region = 0; region < 16; region++) host.ask(R.SET_REGION_SYNC, region, 1);
      expect(host.ask(R.IS_REMOTE_RECOVERING, 5)).toMatchObject({ first: 0, second: 16 });
    });

    it('begins with everything in sync under nosync', () => {
      const host = resumed(makeNosync());
      expect(host.ask(R.GET_SYNC_COUNT).first).toBe(16);
      expect(host.ask(R.IN_SYNC, 15).first).toBe(1);
      expect(host.ask(R.IS_CLEAN, 15).first).toBe(1);
      expect(host.ask(R.GET_RESYNC_WORK).first).toBe(0);
    });

    it('turns a region dirty by MARK and clean again by CLEAR', () => {
      const host = resumed(makeNosync());
      expect(host.ask(R.MARK_REGION, 3, 4).kind).toBe(ReplyKind.ACK);
      expect(host.later(R.FLUSH).errno).toBe(0);
      expect(host.ask(R.IS_CLEAN, 3).first).toBe(0);
      expect(host.ask(R.IN_SYNC, 3).first).toBe(1);
      expect(host.ask(R.CLEAR_REGION, 3).kind).toBe(ReplyKind.ACK);
      expect(host.later(R.FLUSH).errno).toBe(0);
      expect(host.ask(R.IS_CLEAN, 3).first).toBe(1);
      expect(host.ask(R.IS_CLEAN, 4).first).toBe(0);
      host.log.checkInvariants();
    });

    it('marks the regions that ride in FLUSH (integrated_flush)', () => {
      const host = resumed(makeNosync());
      expect(host.later(R.FLUSH, 7, 8).errno).toBe(0);
      expect(host.ask(R.IS_CLEAN, 7).first).toBe(0);
      expect(host.ask(R.IS_CLEAN, 8).first).toBe(0);
    });

    it('gives a repeated MARK, CLEAR and SET_REGION_SYNC the effect of one', () => {
      const host = resumed(makeNosync());
      host.ask(R.MARK_REGION, 3);
      host.ask(R.MARK_REGION, 3);
      host.later(R.FLUSH);
      host.ask(R.CLEAR_REGION, 3);
      host.ask(R.CLEAR_REGION, 3);
      host.later(R.FLUSH);
      expect(host.ask(R.IS_CLEAN, 3).first).toBe(1);
      host.ask(R.SET_REGION_SYNC, 3, 0);
      host.ask(R.SET_REGION_SYNC, 3, 0);
      expect(host.ask(R.GET_SYNC_COUNT).first).toBe(15);
      host.ask(R.SET_REGION_SYNC, 3, 1);
      host.ask(R.SET_REGION_SYNC, 3, 1);
      expect(host.ask(R.GET_SYNC_COUNT).first).toBe(16);
      host.log.checkInvariants();
    });

    it('never calls a region clean that is not in sync', () => {
      const host = resumed(make());
      host.ask(R.CLEAR_REGION, 3);
      host.later(R.FLUSH);
      expect(host.ask(R.IS_CLEAN, 3).first).toBe(0);
      host.ask(R.SET_REGION_SYNC, 3, 1);
      host.ask(R.CLEAR_REGION, 3);
      host.later(R.FLUSH);
      host.ask(R.SET_REGION_SYNC, 3, 0);
      expect(host.ask(R.IS_CLEAN, 3).first).toBe(0);
      host.log.checkInvariants();
    });

    it('is unchanged by the RESUME of a reconnect', () => {
      const host = resumed(make());
      host.ask(R.GET_RESYNC_WORK);
      host.ask(R.SET_REGION_SYNC, 0, 1);
      host.ask(R.GET_RESYNC_WORK);
      resumed(host);
      expect(host.ask(R.GET_RESYNC_WORK)).toMatchObject({ first: 1, second: 1 });
      expect(host.ask(R.GET_SYNC_COUNT).first).toBe(1);
    });

    it('keeps its state through suspend and resume', () => {
      const host = resumed(makeNosync());
      host.ask(R.SET_REGION_SYNC, 2, 0);
      host.ask(R.PRESUSPEND);
      expect(host.later(R.POSTSUSPEND).errno).toBe(0);
      resumed(host);
      expect(host.ask(R.GET_SYNC_COUNT).first).toBe(15);
      expect(host.ask(R.GET_RESYNC_WORK)).toMatchObject({ first: 1, second: 2 });
    });

    it.each([R.GET_RESYNC_WORK, R.MARK_REGION, R.FLUSH])(
      'suspended, has missed a RESUME when it is asked type %i',
      (type) => {
        const host = resumed(makeNosync());
        host.ask(R.MARK_REGION, 2);
        host.ask(R.PRESUSPEND);
        host.later(R.POSTSUSPEND);
        const regions = type === R.GET_RESYNC_WORK ? [] : [1];
        expect(host.ask(type, ...regions).kind).toBe(ReplyKind.UNKNOWN);
        // What the last writes leave to say is no such sign.
        expect(host.ask(R.CLEAR_REGION, 2).kind).toBe(ReplyKind.ACK);
        expect(host.later(R.FLUSH).errno).toBe(0);
        resumed(host);
        expect(host.ask(type, ...regions).kind).not.toBe(ReplyKind.UNKNOWN);
      },
    );

    describe('refuses regions out of range', () => {
      it.each([R.MARK_REGION, R.CLEAR_REGION, R.IS_CLEAN, R.IS_REMOTE_RECOVERING, R.FLUSH])(
        'type %i',
        (type) => {
          const host = resumed(makeNosync());
          expect(host.ask(type, 16)).toMatchObject({ kind: ReplyKind.ERROR, errno: 22 });
          expect(host.ask(type, 2 ** 40).kind).toBe(ReplyKind.ERROR);
          expect(host.ask(R.GET_SYNC_COUNT).first).toBe(16);
          host.log.checkInvariants();
        },
      );

      it('SET_REGION_SYNC', () => {
        const host = resumed(makeNosync());
        expect(host.ask(R.SET_REGION_SYNC, 16, 0)).toMatchObject({ kind: ReplyKind.ERROR, errno: 22 });
      });

      it('but IN_SYNC with silence: an error would be taken for an answer', () => {
        expect(resumed(makeNosync()).ask(R.IN_SYNC, 16).kind).toBe(ReplyKind.SILENT);
      });

      it('and marks none of a list when one is out of range', () => {
        const host = resumed(makeNosync());
        host.ask(R.MARK_REGION, 3, 16);
        expect(host.ask(R.IS_CLEAN, 3).first).toBe(1);
      });
    });

    it('is unknown after DTR', () => {
      const host = resumed(make());
      expect(host.ask(R.DTR).kind).toBe(ReplyKind.ACK);
      expect(host.ask(R.IN_SYNC, 0).kind).toBe(ReplyKind.UNKNOWN);
    });
  });
}

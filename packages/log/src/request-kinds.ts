import { type FrameView, RequestType } from '@dmlog/protocol';

/** Requests about single regions, and FLUSH: they make sense on a resumed log only. GET_SYNC_COUNT is asked before, too. */
export function asksOfRegions(type: number): boolean {
  return (
    (type >= RequestType.IS_CLEAN && type <= RequestType.SET_REGION_SYNC) ||
    type === RequestType.IS_REMOTE_RECOVERING
  );
}

/** Requests that a suspended mirror does not make: recovery is stopped before PRESUSPEND, and all writes have ended before POSTSUSPEND. */
export function startsWork(view: FrameView): boolean {
  return (
    view.type === RequestType.GET_RESYNC_WORK ||
    view.type === RequestType.MARK_REGION ||
    (view.type === RequestType.FLUSH && view.regionCount > 0)
  );
}

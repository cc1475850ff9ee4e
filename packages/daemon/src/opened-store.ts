import { imageBytes, judgeHeader, type LogParameters, readHeader } from '@dmlog/log';
import { Errno } from '@dmlog/protocol';
import type { Logger } from './logging.js';
import type { ImageStore, Legs } from './served.js';

/** A device that was opened for a log, and what it is like. */
export interface OpenedStore {
  readonly store: ImageStore;
  readonly legs: Legs;
  /** What CTR returns for the kernel to open and hold, or null where the kernel could not (a file, in tests). */
  readonly kernelName: string | null;
  /** Whether a mirror holds the device in the kernel; null where that cannot be told. */
  readonly held: boolean | null;
  readonly sizeBytes: number;
  readonly logicalBlockBytes: number;
  /** Best unit of writes, at least the logical block. */
  readonly blockBytes: number;
}

/** A refusal with the errno the kernel gets. */
export class RefusedError extends Error {
  readonly errno: number;
  constructor(message: string, errno: number) {
    super(message);
    this.errno = errno;
  }
}

/** Refuses an image of a format that we would have to destroy. A read error is RESUME's business: the log then starts out of sync. */
export async function refuseForeignImage(
  parameters: LogParameters,
  opened: OpenedStore,
  { allocateImage, logger }: { allocateImage: (bytes: number) => Uint8Array; logger: Logger },
): Promise<void> {
  const head = allocateImage(opened.logicalBlockBytes);
  const error = await new Promise<Error | null>((resolve) => opened.store.readImage(head, resolve));
  if (error !== null) return;
  const verdict = judgeHeader(readHeader(head));
  if (verdict.kind === 'refused')
    throw new RefusedError(`${parameters.device}: ${verdict.reason}`, Errno.EINVAL);
  if (verdict.kind === 'blank') {
    logger.info({ device: parameters.device }, 'no log image on the device yet: a new one will be made');
  }
}

/** Larger blocks suit the device better, but the last one must not reach past its end. */
export function blockBytesFor({ regionCount }: LogParameters, opened: OpenedStore): number {
  const fits = imageBytes(regionCount, opened.blockBytes) <= opened.sizeBytes;
  return fits ? opened.blockBytes : opened.logicalBlockBytes;
}

export function closeStore(opened: OpenedStore | null): void {
  opened?.store.close();
  opened?.legs.close();
}

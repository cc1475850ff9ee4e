import { batchTransport, NO_REPLY } from '@dmlog/connector';

/*
 * The smallest daemon on the transport: acknowledges everything, answers the rest with constants, keeps no log. What it
 * costs beyond the C echo is the price of the transport and of the language; what singled costs beyond it is the log's.
 *
 *   node transport-echo.js UUID_PREFIX
 *
 * Prints "ready" once it listens. Ends by SIGTERM.
 */

/** Offsets as in `native/wire.h`. */
const AT = {
  nlLength: 0,
  cnAck: 28,
  cnLength: 32,
  uuid: 44,
  error: 180,
  type: 188,
  dataBytes: 192,
  data: 196,
} as const;
const ACK_BYTES = 36;
const HEAD_BYTES = 196;
const ULOG_BYTES = 160;
const TYPE = {
  getRegionSize: 6,
  isClean: 7,
  inSync: 8,
  work: 12,
  syncCount: 14,
  status: 15,
  recovering: 17,
} as const;
/** Every log of the bench has this region size. */
const REGION_SIZE_SECTORS = 2;
const WORK_REGIONS = 1024;

const prefix = new TextEncoder().encode(process.argv[2] ?? '');
const status = new TextEncoder().encode('1 core\0');
const transport = batchTransport({
  acceptUserRequests: true,
  onFault: (fault) => console.error(`transport: ${fault.kind}: ${fault.error.message}`),
});
const arena = transport.arena;
const view = new DataView(arena.buffer, arena.byteOffset, arena.byteLength);
let work = 0;

function ack(at: number): number {
  view.setUint32(at + AT.nlLength, ACK_BYTES, true);
  view.setUint32(at + AT.cnAck, 0, true);
  view.setUint16(at + AT.cnLength, 0, true);
  return ACK_BYTES;
}

function full(at: number, dataBytes: number): number {
  view.setUint32(at + AT.nlLength, HEAD_BYTES + dataBytes, true);
  view.setUint16(at + AT.cnLength, ULOG_BYTES + dataBytes, true);
  view.setInt32(at + AT.error, 0, true);
  view.setUint32(at + AT.dataBytes, dataBytes, true);
  return HEAD_BYTES + dataBytes;
}

function put64(at: number, value: number): void {
  view.setUint32(at, value, true);
  view.setUint32(at + 4, 0, true);
}

function one(at: number, value: number): number {
  put64(at + AT.data, value);
  return full(at, 8);
}

function two(at: number, first: number, second: number): number {
  put64(at + AT.data + 8, second);
  put64(at + AT.data, first);
  return full(at, 16);
}

function answer(at: number, length: number): number {
  if (length < HEAD_BYTES) return NO_REPLY;
  for (let i = 0; i < prefix.length; i++) if (arena[at + AT.uuid + i] !== prefix[i]) return NO_REPLY;
  switch (view.getUint32(at + AT.type, true) & 0xff) {
    case TYPE.getRegionSize:
      return one(at, REGION_SIZE_SECTORS);
    case TYPE.isClean:
    case TYPE.inSync:
      return one(at, 1);
    case TYPE.syncCount:
      return one(at, 0);
    case TYPE.work:
      work = (work + 1) % WORK_REGIONS;
      return two(at, 1, work);
    case TYPE.recovering:
      return two(at, 0, 0);
    case TYPE.status:
      arena.set(status, at + AT.data);
      return full(at, status.length);
    default:
      return ack(at);
  }
}

transport.start(answer);
process.once('SIGTERM', () => void transport.close());
console.log('ready');

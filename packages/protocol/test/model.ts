/// <reference types="node" />
import { DecodeCode } from '@dmlog/protocol';

/** What {@link FrameView} must say of a frame. */
export interface Verdict {
  code: DecodeCode;
  answerable: boolean;
  type: number;
  version: number;
  seq: number;
  luid: bigint;
  uuid: string;
  data: Buffer;
  regions: bigint[];
}

const refused = (code: DecodeCode): Verdict => ({
  code,
  answerable: false,
  type: 0,
  version: 0,
  seq: 0,
  luid: 0n,
  uuid: '',
  data: Buffer.alloc(0),
  regions: [],
});

/** The slow, obvious decoder: written from the kernel header with literal offsets, sharing nothing with the package. */
export function modelDecode(frame: Buffer): Verdict {
  if (frame.length < 196) return refused(DecodeCode.TRUNCATED);
  const nlmsgLen = frame.readUInt32LE(0);
  if (nlmsgLen < 196 || nlmsgLen > frame.length) return refused(DecodeCode.BAD_NETLINK_LENGTH);
  if (frame.readUInt16LE(4) !== 3) return refused(DecodeCode.BAD_NETLINK_TYPE);
  if (frame.readUInt32LE(16) !== 7 || frame.readUInt32LE(20) !== 1)
    return refused(DecodeCode.BAD_CONNECTOR_ID);
  const nul = frame.subarray(44, 44 + 129).indexOf(0);
  const verdict: Verdict = {
    ...refused(DecodeCode.OK),
    answerable: true,
    type: frame.readUInt32LE(188) % 256,
    version: frame.readUInt32LE(176),
    seq: frame.readUInt32LE(184),
    luid: frame.readBigUInt64LE(36),
    uuid: frame.toString('latin1', 44, 44 + (nul === -1 ? 128 : nul)),
  };
  const { type, version } = verdict;
  if (nul === -1) return { ...verdict, code: DecodeCode.BAD_UUID };
  if (![1, 2, 3].includes(version)) return { ...verdict, code: DecodeCode.BAD_VERSION };
  if (type === 0 || type > 17) return { ...verdict, code: DecodeCode.BAD_TYPE };
  const dataSize = frame.readUInt32LE(192);
  const cnLen = frame.readUInt16LE(32);
  if (cnLen !== 160 + dataSize || 36 + cnLen > nlmsgLen) {
    return { ...verdict, code: DecodeCode.BAD_CONNECTOR_LENGTH };
  }
  const data = frame.subarray(196, 196 + dataSize);
  const list = [10, 11].includes(type) || (type === 9 && version === 3);
  const single = [7, 8, 13, 17].includes(type);
  const sound =
    (!list || (dataSize % 8 === 0 && dataSize <= 332 && (dataSize > 0 || type === 9))) &&
    (!single || dataSize === (type === 13 ? 16 : 8)) &&
    (type !== 1 || dataSize > 0);
  if (!sound) return { ...verdict, code: DecodeCode.BAD_PAYLOAD };
  const regions: bigint[] = [];
  if (list) for (let at = 0; at < dataSize; at += 8) regions.push(data.readBigUInt64LE(at));
  if (single) regions.push(data.readBigUInt64LE(0));
  return { ...verdict, data, regions };
}

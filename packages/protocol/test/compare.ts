import { type FrameView, uuidKey } from '@dmlog/protocol';
import { modelDecode, type Verdict } from './model.js';

/** The first difference between view and model, or '' when they agree. A string compare per frame would be the slowest part. */
export function difference(view: FrameView, code: number, frame: Buffer): string {
  const model = modelDecode(frame);
  if (code !== model.code) return `code ${code}, model ${model.code}`;
  if (view.answerable !== model.answerable) return `answerable ${view.answerable}`;
  if (view.type !== model.type) return `type ${view.type}, model ${model.type}`;
  if (view.version !== model.version) return `version ${view.version}, model ${model.version}`;
  if (view.seq !== model.seq) return `seq ${view.seq}, model ${model.seq}`;
  if (view.luidLow !== Number(model.luid & 0xffffffffn))
    return `luidLow ${view.luidLow}, model ${model.luid}`;
  if (view.luidHigh !== Number(model.luid >> 32n)) return `luidHigh ${view.luidHigh}, model ${model.luid}`;
  if (view.uuidText() !== model.uuid) return `uuid ${view.uuidText()}, model ${model.uuid}`;
  if (!view.uuidEquals(uuidKey(Buffer.from(model.uuid, 'latin1'))) && model.answerable)
    return 'uuidEquals is false';
  if (view.dataSize !== model.data.length) return `dataSize ${view.dataSize}, model ${model.data.length}`;
  if (view.nulTerminated !== (model.data.at(-1) === 0)) return `nulTerminated ${view.nulTerminated}`;
  return regionDifference(view, model);
}

function regionDifference(view: FrameView, model: Verdict): string {
  const count = model.regions.length;
  if (view.regionCount !== count) return `regionCount ${view.regionCount}, model ${count}`;
  for (let i = 0; i < count; i++) {
    const region = model.regions[i] as bigint;
    const expected = region < 1n << 53n ? Number(region) : Number.POSITIVE_INFINITY;
    if (view.region(i) !== expected) return `region ${i} is ${view.region(i)}, model ${region}`;
  }
  if (view.region(count) !== Number.POSITIVE_INFINITY) return 'a region after the last';
  const inSync = model.type === 13 && count === 1 && model.data.readBigUInt64LE(8) !== 0n;
  return view.inSync() === inSync ? '' : `inSync ${view.inSync()}`;
}

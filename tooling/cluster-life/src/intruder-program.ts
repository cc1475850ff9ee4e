/** Another program in a log's group, on a node without a daemon: hears everything, and says whatever it is told to. */
import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { serveLines } from '@dmlog/corosync-lab';
import { type CpgGroup, loadBinding, openCpg } from 'corosync-cpg-napi';
import {
  decodeMessage,
  encodeChunk,
  encodeMessage,
  encodeTarget,
  MessageKind,
} from '../../../packages/cluster/src/messages.js';

let group: CpgGroup | null = null;
/** The last messages of others. */
const heard: Buffer[] = [];
const HEARD_MAX = 200;
/** While true, each joiner that says hello is offered a checkpoint that is none. */
let lies = false;

function onMessage(nodeId: number, bytes: Buffer): void {
  if (nodeId === group?.self.nodeId) return;
  heard.push(Buffer.from(bytes));
  if (heard.length > HEARD_MAX) heard.shift();
  const message = decodeMessage(bytes);
  if (!lies || typeof message === 'string' || message.kind !== MessageKind.HELLO) return;
  const target = { nodeId, nonce: message.nonce, attempt: 77 };
  const about = { ring: message.ring, nonce: 1, number: 0, position: 0 };
  const chunk = encodeChunk({ index: 0, count: 1, bytes: new Uint8Array(500).fill(7) });
  group?.send(encodeMessage({ ...about, kind: MessageKind.SNAPSHOT_BEGIN }, encodeTarget(target)));
  group?.send(encodeMessage({ ...about, kind: MessageKind.SNAPSHOT }, encodeTarget(target, chunk)));
}

const methods = {
  async join(name: string): Promise<void> {
    const root = dirname(createRequire(import.meta.url).resolve('corosync-cpg-napi/package.json'));
    group = await openCpg({
      group: name,
      handlers: { deliver: (nodeId, _pid, bytes) => onMessage(nodeId, bytes), died: () => {} },
      binding: loadBinding(root),
    });
    await group.join();
  },

  heardCount: (): number => heard.length,

  /** Sends bytes, base64. */
  say(texts: readonly string[]): void {
    for (const text of texts) group?.send(Buffer.from(text, 'base64'));
  },

  /** What it heard last, base64, oldest first. */
  heard: (): string[] => heard.map((bytes) => bytes.toString('base64')),

  lie(): void {
    lies = true;
  },

  async leave(): Promise<void> {
    await group?.leave();
  },
};
export type IntruderMethods = typeof methods;

serveLines(methods);

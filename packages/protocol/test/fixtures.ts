/// <reference types="node" />
import { readdirSync, readFileSync } from 'node:fs';
import { parseTrace, type Trace } from '@dmlog/protocol';

const directory = new URL('./fixtures/', import.meta.url);

/** Every recorded conversation, by file name. */
export const traces: readonly (readonly [string, Trace])[] = readdirSync(directory)
  .filter((name) => name.endsWith('.jsonl'))
  .sort()
  .map((name) => [name, parseTrace(readFileSync(new URL(name, directory), 'utf8'))] as const);

export const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

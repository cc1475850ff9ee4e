/** A program for a node: answers, fails and reports. */
import { networkInterfaces } from 'node:os';
import { serveLines } from '../src/index.js';

export interface EchoEvent {
  said: string;
}

export type EchoMethods = {
  echo(parameters: { text: string }): string;
  addresses(): string[];
  fail(): never;
};

const methods: EchoMethods = {
  echo({ text }) {
    tell({ said: text });
    return text;
  },
  addresses: () =>
    Object.values(networkInterfaces()).flatMap((list) => (list ?? []).map(({ address }) => address)),
  fail() {
    throw Object.assign(new Error('planted'), { code: 'ERR_PLANTED' });
  },
};
const tell = serveLines<EchoEvent>(methods);

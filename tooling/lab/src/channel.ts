import type { Duplex } from 'node:stream';

/** Lines that the guest's agent says on the serial line (guest/agent.sh). */
export interface AgentEvents {
  ready(): void;
  pid(id: number, pid: number): void;
  exit(id: number, status: number): void;
}

/** Splits the serial line into the agent's lines. Anything else on it (none is expected) is ignored. */
export class AgentLine {
  readonly #stream: Duplex;
  #rest = '';

  constructor(stream: Duplex, events: AgentEvents) {
    this.#stream = stream;
    stream.setEncoding('latin1');
    // The guest may end at any time; the machine learns of it from the process.
    stream.on('error', () => {});
    stream.on('data', (text: string) => {
      const lines = (this.#rest + text).split('\n');
      this.#rest = lines.pop()!;
      for (const line of lines) dispatch(line.trim(), events);
    });
  }

  send(line: string): void {
    if (!this.#stream.destroyed) this.#stream.write(`${line}\n`);
  }

  close(): void {
    this.#stream.destroy();
  }
}

function dispatch(line: string, events: AgentEvents): void {
  const [verb, id, value] = line.split(' ');
  if (verb === 'ready') events.ready();
  else if (verb === 'pid') events.pid(Number(id), Number(value));
  else if (verb === 'exit') events.exit(Number(id), Number(value));
}

/** A word that any POSIX shell reads back as `text`. */
export function shellQuote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

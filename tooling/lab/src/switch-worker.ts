/**
 * The switch's own thread: frames flow while the scenario's thread compares legs or waits for a disk. A stalled switch would look like a broken
 * network to the machines. Built as a program of its own; `network.ts` starts it and talks to it by messages.
 */
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { FrameSwitch, type LinkShape, type SwitchStats } from './switch.js';
import { SwitchPort } from './switch-port.js';

/** What the thread is told; each command is answered in turn. */
export type SwitchCommand =
  | { readonly verb: 'attach'; readonly port: number }
  | { readonly verb: 'cut' | 'heal'; readonly port: number }
  | { readonly verb: 'partition'; readonly groups: readonly (readonly number[])[] }
  | { readonly verb: 'shape'; readonly port: number; readonly shape: LinkShape }
  | { readonly verb: 'stats' };

/** `udpPort` answers `attach`, `stats` all others. */
export interface SwitchAnswer {
  readonly udpPort?: number;
  readonly stats?: SwitchStats;
  readonly error?: string;
}

export interface SwitchWorkerData {
  readonly cookie: bigint;
}

function serve(commands: MessagePort, cookie: bigint): void {
  const ports = new Map<number, SwitchPort>();
  const frames = new FrameSwitch({
    send: (port, frame) => ports.get(port)?.send(frame),
    later: (delayMs, action) => void setTimeout(action, delayMs),
    random: Math.random,
  });

  async function obey(command: SwitchCommand): Promise<SwitchAnswer> {
    switch (command.verb) {
      case 'attach': {
        const port = await SwitchPort.open(cookie, (frame) => frames.receive(command.port, frame));
        ports.set(command.port, port);
        frames.addPort(command.port);
        return { udpPort: port.udpPort };
      }
      case 'cut':
        frames.cut(command.port);
        break;
      case 'heal':
        frames.heal(command.port);
        break;
      case 'partition':
        frames.partition(command.groups);
        break;
      case 'shape':
        frames.shape(command.port, command.shape);
        break;
      case 'stats':
        break;
    }
    return { stats: frames.stats() };
  }

  let last: Promise<void> = Promise.resolve();
  commands.on('message', (command: SwitchCommand) => {
    last = last.then(async () => {
      const answer = await obey(command).catch((error: unknown) => ({ error: String(error) }));
      commands.postMessage(answer);
    });
  });
}

if (parentPort === null) throw new Error('this program is the thread of a switch: see network.ts');
serve(parentPort, (workerData as SwitchWorkerData).cookie);

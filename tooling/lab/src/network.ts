import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { LabError } from './errors.js';
import type { LinkShape, SwitchStats } from './switch.js';
import { kernelArgument } from './switch-port.js';
import type { SwitchAnswer, SwitchCommand, SwitchWorkerData } from './switch-worker.js';

const WORKER = fileURLToPath(new URL('../dist/switch-worker.js', import.meta.url));
/** Machines 1 to 254 of 10.77.0.0/24. */
const NODE_MAX = 254;

/** A machine's place at a switch: for `BootOptions.network`. It stays the same over power cuts and boots. */
export interface NetworkPlace {
  readonly node: number;
  /** Inside: `vec0` has this address, prefix /24. */
  readonly address: string;
  readonly kernelArgument: string;
}

/**
 * A switch of its own and the cables of its machines, named by their node numbers (1 to 254). All of it lives on this host's loopback interface and in
 * this process. Every method returns when the switch has obeyed.
 */
export class Network {
  readonly #worker: Worker;
  readonly #cookie: bigint;
  readonly #places = new Map<number, NetworkPlace>();
  readonly #waiting: { resolve: (answer: SwitchAnswer) => void; reject: (error: Error) => void }[] = [];
  #closed: Error | undefined;

  constructor() {
    if (!existsSync(WORKER))
      throw new LabError('ERR_LAB_USAGE', `the switch is not built (${WORKER}): run pnpm build`);
    // 63 bits: the machine's kernel reads it as a signed number.
    this.#cookie = randomBytes(8).readBigUInt64BE() >> 1n;
    const workerData: SwitchWorkerData = { cookie: this.#cookie };
    this.#worker = new Worker(WORKER, { workerData });
    // It keeps this process alive only while somebody waits for an answer.
    this.#worker.unref();
    this.#worker.on('message', (answer: SwitchAnswer) => {
      this.#waiting.shift()?.resolve(answer);
      if (this.#waiting.length === 0) this.#worker.unref();
    });
    this.#worker.on('error', (error) => {
      console.error('lab: the switch has died', error);
      this.#fail(error);
    });
    this.#worker.on('exit', () => this.#fail(new Error('its thread has ended')));
  }

  static addressOf(node: number): string {
    return `10.77.0.${node}`;
  }

  /** The place of a machine, made on first use. */
  async place(node: number): Promise<NetworkPlace> {
    const known = this.#places.get(node);
    if (known !== undefined) return known;
    if (!Number.isInteger(node) || node < 1 || node > NODE_MAX)
      throw new LabError('ERR_LAB_USAGE', `${node} is not a node number: 1 to ${NODE_MAX}`);
    const { udpPort } = await this.#ask({ verb: 'attach', port: node });
    // Locally administered (second bit of the first byte), as QEMU's.
    const mac = `52:54:00:4d:00:${node.toString(16).padStart(2, '0')}`;
    const place = {
      node,
      address: Network.addressOf(node),
      kernelArgument: kernelArgument(udpPort!, this.#cookie, mac),
    };
    this.#places.set(node, place);
    return place;
  }

  /** Pulls the machine's cable, both directions. */
  async cut(node: number): Promise<void> {
    await this.#ask({ verb: 'cut', port: this.#known(node) });
  }

  /** Plugs it in again. */
  async heal(node: number): Promise<void> {
    await this.#ask({ verb: 'heal', port: this.#known(node) });
  }

  /** Machines of one group see each other and nobody else; those not named form one more group. `[]` heals. Cuts stay. */
  async partition(groups: readonly (readonly number[])[]): Promise<void> {
    for (const node of groups.flat()) this.#known(node);
    await this.#ask({ verb: 'partition', groups });
  }

  /** Delays or loses frames from and to a machine, until it is called again; `{}` makes its cable perfect. */
  async shape(node: number, shape: LinkShape): Promise<void> {
    await this.#ask({ verb: 'shape', port: this.#known(node), shape });
  }

  async stats(): Promise<SwitchStats> {
    return (await this.#ask({ verb: 'stats' })).stats!;
  }

  async close(): Promise<void> {
    await this.#worker.terminate();
  }

  #known(node: number): number {
    if (this.#places.has(node)) return node;
    const nodes = [...this.#places.keys()].join(', ');
    throw new LabError('ERR_LAB_USAGE', `no machine ${node} is at this switch: ${nodes}`);
  }

  async #ask(command: SwitchCommand): Promise<SwitchAnswer> {
    if (this.#closed !== undefined) throw this.#lost(this.#closed);
    const answer = await new Promise<SwitchAnswer>((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#worker.ref();
      this.#worker.postMessage(command);
    });
    if (answer.error !== undefined)
      throw new LabError('ERR_LAB_HOST', `the switch cannot ${command.verb}: ${answer.error}`);
    return answer;
  }

  #fail(error: Error): void {
    this.#closed ??= error;
    for (const { reject } of this.#waiting.splice(0)) reject(this.#lost(error));
  }

  #lost(cause: Error): LabError {
    return new LabError('ERR_LAB_LOST', `the switch is gone: ${cause.message}`, { cause });
  }
}

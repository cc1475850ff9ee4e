import { Worker } from 'node:worker_threads';
import type { Order, Report } from './orders.js';

/** Runs orders on several threads, in any order. Ends after the first failure, or when `orders` does. */
export async function runAll(
  bundlePath: string,
  orders: Iterator<Order>,
  options: { readonly threads: number; readonly onReport: (report: Report) => boolean },
): Promise<void> {
  let going = true;
  const one = async () => {
    const worker = new Simulator(bundlePath);
    try {
      for (let next = orders.next(); going && next.done !== true; next = orders.next()) {
        if (!options.onReport(await worker.run(next.value))) going = false;
      }
    } finally {
      await worker.close();
    }
  };
  await Promise.all(Array.from({ length: options.threads }, one));
}

/** A thread that simulates, one order after the other. */
export class Simulator {
  readonly #worker: Worker;
  #settle: { resolve: (report: Report) => void; reject: (error: Error) => void } | null = null;

  constructor(bundlePath: string) {
    this.#worker = new Worker(bundlePath);
    this.#worker.on('message', (report: Report) => this.#settle?.resolve(report));
    this.#worker.on('error', (error) =>
      this.#settle?.reject(error instanceof Error ? error : new Error(String(error))),
    );
    this.#worker.on('exit', (code) =>
      this.#settle?.reject(new Error(`a simulating thread ended with ${code}`)),
    );
  }

  run(order: Order): Promise<Report> {
    return new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
      this.#worker.postMessage(order);
    });
  }

  async close(): Promise<void> {
    this.#settle = null;
    await this.#worker.terminate();
  }
}

/**
 * What a careless application does, each in a process of its own, in a node: node scenarios.mjs <name>. Prints what happened, in one line.
 */
import { once } from 'node:events';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { type CpgGroup, type CpgHandlers, openCpg } from '../src/index.js';

const quiet = (handlers: Partial<CpgHandlers> = {}): CpgHandlers => ({
  deliver: () => {},
  died: (error) => console.log(`died ${error.message}`),
  ...handlers,
});

async function joined(group: string, handlers: Partial<CpgHandlers> = {}): Promise<CpgGroup> {
  const member = await openCpg({ group, handlers: quiet(handlers) });
  await member.join();
  return member;
}

const codeOf = (action: () => unknown): Promise<string> =>
  (async () => action())().then(
    () => 'fine',
    (error: { code?: string }) => error.code ?? 'no code',
  );

/** Resolves with the first message. */
function firstMessage(group: string, onMessage: (member: CpgGroup, text: string) => void): Promise<CpgGroup> {
  return new Promise((resolve, reject) => {
    const member: Promise<CpgGroup> = joined(group, {
      deliver: (_nodeId, _pid, bytes) => {
        void member.then((itself) => {
          onMessage(itself, bytes.toString());
          resolve(itself);
        });
      },
    });
    member.then((itself) => itself.send(Buffer.from('first')), reject);
  });
}

const scenarios: Record<string, () => Promise<void> | void> = {
  async 'several-groups'() {
    const names = ['one', 'two', 'three'];
    const got: string[] = [];
    const members = await Promise.all(
      names.map((name) => joined(name, { deliver: (_n, _p, bytes) => got.push(`${name}:${bytes}`) })),
    );
    members.forEach((member, index) => {
      member.send(Buffer.from(`to ${names[index]}`));
    });
    while (got.length < 3) await new Promise(setImmediate);
    const second = await openCpg({ group: 'one', handlers: quiet() });
    const again = await codeOf(() => second.join());
    await Promise.all([...members.map((member) => member.leave()), second.close()]);
    console.log(got.sort().join(), again);
  },

  async 'close-anywhere'() {
    const unjoined = await openCpg({ group: 'a', handlers: quiet() });
    await Promise.all([unjoined.close(), unjoined.close()]);
    await unjoined.close();
    const left = await openCpg({ group: 'a', handlers: quiet() });
    await left.leave();
    const joining = await openCpg({ group: 'a', handlers: quiet() });
    const join = codeOf(() => joining.join());
    await joining.close();
    const leaving = await joined('a');
    const leave = codeOf(() => leaving.leave());
    await leaving.close();
    const after = [() => leaving.send(Buffer.alloc(1)), () => leaving.join(), () => leaving.leave()].map(
      codeOf,
    );
    console.log(await join, await leave, ...(await Promise.all(after)));
  },

  async 'close-in-handlers'() {
    let events = 0;
    for (const handler of ['confchg', 'ring', 'deliver', 'batchEnd'] as const) {
      const member: CpgGroup = await openCpg({
        group: 'b',
        handlers: quiet({
          [handler]: () => {
            events++;
            void member.close();
            void member.close();
          },
        }),
      });
      const join = codeOf(() => member.join());
      if (handler === 'deliver') {
        await join;
        for (let number = 0; number < 10; number++) member.send(Buffer.from('x'));
      }
      while ((await codeOf(() => member.send(Buffer.alloc(0)))) !== 'ERR_CPG_CLOSED')
        await new Promise(setImmediate);
      await member.close();
    }
    console.log(events);
  },

  async 'leave-in-handler'() {
    const member = await firstMessage('c', (itself) => void itself.leave().then(() => console.log('left')));
    await new Promise(setImmediate);
    if ((await codeOf(() => member.send(Buffer.alloc(0)))) === 'fine') console.log('sent');
  },

  'exit-open': async () => {
    await joined('d');
    console.log('bye');
    process.exit(0);
  },

  'exit-in-handler': async () => {
    const member = await joined('d', {
      deliver: () => {
        console.log('bye');
        process.exit(0);
      },
    });
    member.send(Buffer.from('x'));
  },

  'exit-joining': async () => {
    const member = await openCpg({ group: 'd', handlers: quiet() });
    void member.join();
    void openCpg({ group: 'e', handlers: quiet() });
    console.log('bye');
    process.exit(0);
  },

  async 'end-after-close'() {
    await (await joined('d')).close();
    console.log('bye'); // nothing keeps the process
  },

  async 'uncaught-exception'() {
    const got: string[] = [];
    process.on('uncaughtException', (error) => got.push(`(${error.message})`));
    const member = await joined('f', {
      deliver: (_n, _p, bytes) => {
        got.push(bytes.toString());
        if (got.length < 5) throw new Error('planted');
      },
    });
    for (const text of ['a', 'b', 'c', 'd']) member.send(Buffer.from(text));
    while (!got.includes('d')) await new Promise(setImmediate);
    await member.leave();
    console.log(got.join(' '));
  },

  async 'exception-ends-process'() {
    const member = await joined('f', {
      deliver: () => {
        throw new Error('planted');
      },
    });
    process.on('exit', (code) => console.log(`exit ${code}`));
    member.send(Buffer.from('x'));
  },

  async 'tick-throws'() {
    process.on('uncaughtException', (error) => {
      console.log(error.message);
      process.exit(0);
    });
    const member = await joined('f', {
      deliver: () => {
        process.nextTick(() => {
          throw new Error('planted in a tick');
        });
      },
    });
    member.send(Buffer.from('x'));
  },

  async 'views-stay-valid'() {
    const views: Buffer[] = [];
    const member = await joined('g', { deliver: (_n, _p, bytes) => views.push(bytes) });
    for (let number = 0; number < 500; number++) {
      member.send(Buffer.from(`message ${number}`));
      if (number % 50 === 0) globalThis.gc?.();
    }
    while (views.length < 500) await new Promise(setImmediate);
    globalThis.gc?.();
    await member.leave();
    globalThis.gc?.();
    console.log(views.every((view, number) => view.toString() === `message ${number}`));
  },

  async 'no-rights'() {
    process.setgroups!([]);
    process.setgid!(65534);
    process.setuid!(65534);
    console.log(await codeOf(() => openCpg({ group: 'h', handlers: quiet() })));
  },

  async 'not-running'() {
    console.log(await codeOf(() => openCpg({ group: 'h', handlers: quiet() })));
  },

  async 'without-quorum'() {
    let quorate: unknown = 'no ring';
    const handlers = quiet({
      ring: (ring) => {
        quorate = ring.quorate;
      },
    });
    const member = await openCpg({ group: 'i', quorum: false, handlers });
    await member.join();
    console.log(member.hasQuorum, quorate);
    await member.leave();
  },

  'workers-exit': () => runWorkers('worker-exit', () => {}),
  'workers-in-handler': () => runWorkers('worker-spin', (worker) => void worker.terminate()),
  'workers-joining': () => runWorkers('worker-joining', (worker) => void worker.terminate()),
};

const workerScenarios: Record<string, (name: string) => Promise<unknown>> = {
  'worker-exit': async (name) => {
    await joined(name);
    process.exit(0);
  },
  /** Never returns from its handler: only termination ends it. */
  'worker-spin': async (name) => {
    const member = await joined(name, {
      deliver: () => {
        parentPort!.postMessage('in a handler');
        for (;;);
      },
    });
    member.send(Buffer.from('x'));
  },
  'worker-joining': async (name) => {
    const member = await openCpg({ group: name, handlers: quiet() });
    void member.join().catch(() => {});
    parentPort!.postMessage('joining');
  },
};

async function runWorkers(scenario: string, onMessage: (worker: Worker) => void): Promise<void> {
  const ends = [1, 2, 3].map((number) => {
    const worker = new Worker(process.argv[1]!, { workerData: { scenario, group: `w${number}` } });
    worker.on('message', () => onMessage(worker));
    return once(worker, 'exit');
  });
  await Promise.all(ends);
  console.log('workers gone');
}

if (isMainThread) await scenarios[process.argv[2]!]!();
else await workerScenarios[workerData.scenario as string]!(workerData.group as string);

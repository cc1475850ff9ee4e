/** Things that a careless application does to the addon, each in a process of its own: node misbehave.mjs <scenario>. */
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { RawNetlinkSocket } from 'netlink';

const require = createRequire(import.meta.url);
const addon = require(`../prebuilds/linux-${process.arch}/dmlog_connector.node`);
const self = fileURLToPath(import.meta.url);
const TAG = process.pid;

/** Opens and starts a raw socket whose batches are served by `serve(slot)`, for frames of this process only. */
function open(serve, pollNs = 50_000, tag = TAG) {
  const arena = new ArrayBuffer(32 * 1024);
  const view = new DataView(arena);
  const control = new ArrayBuffer(480);
  const words = new Int32Array(control, 0, 104);
  const onBatch = () => {
    for (let slot = 0; slot < words[0]; slot++) {
      if (words[8 + slot] > 40 && view.getUint32(slot * 1024 + 36, true) === tag) serve(words, slot);
    }
  };
  const handle = addon.open(arena, control, 7, 1 << 20, true, pollNs, onBatch, () => {});
  addon.start(handle);
  return handle;
}

function peer() {
  const socket = new RawNetlinkSocket(11, { messagePeeking: false });
  const request = (tag = TAG) => {
    const frame = Buffer.alloc(204);
    frame.writeUInt32LE(tag, 36);
    socket.send(frame, { groups: 1 << 6 });
  };
  return { socket, request };
}

const scenarios = {
  'exit-open'() {
    open(() => {});
    console.log('bye');
    process.exit(0);
  },
  'exit-in-batch'() {
    open(() => {
      console.log('bye');
      process.exit(0);
    });
    peer().request();
  },
  'close-in-batch-and-exit'() {
    const handle = open(() => {
      addon.close(handle);
      addon.close(handle);
      console.log('bye');
      process.exit(0);
    });
    peer().request();
  },
  'forgotten-and-collected'() {
    open(() => {
      console.log('served');
      process.exit(0);
    });
    for (let round = 0; round < 5; round++) globalThis.gc();
    setTimeout(() => {
      globalThis.gc();
      peer().request();
    }, 20);
  },
  'use-after-close'() {
    const handle = open(() => {});
    addon.close(handle);
    const sent = addon.send(handle, new Uint8Array(36), 0);
    const code = (() => {
      try {
        addon.start(handle);
        return 'started';
      } catch (error) {
        return error.code;
      }
    })();
    console.log(sent === 9 ? 'EBADF' : sent, code);
    globalThis.gc();
    setTimeout(() => {
      globalThis.gc();
      addon.close(handle);
    }, 20);
  },
  'wrong-arguments'() {
    const codes = [[], [new ArrayBuffer(1), new ArrayBuffer(1), 7, 1, true, 0, () => {}, () => {}]].map(
      (args) => {
        try {
          addon.open(...args);
          return 'opened';
        } catch (error) {
          return error.code;
        }
      },
    );
    console.log(...codes);
  },
  'callback-throws'() {
    let batches = 0;
    const { request } = peer();
    process.on('uncaughtException', () => {});
    open(() => {
      batches++;
      if (batches === 1) {
        setTimeout(request, 10);
        throw new Error('planted');
      }
      console.log('served again');
      process.exit(0);
    });
    request();
  },
  'tick-throws'() {
    process.on('uncaughtException', (error) => {
      console.log(`uncaughtException: ${error.message}`);
      process.exit(0);
    });
    open(() => {
      process.nextTick(() => {
        throw new Error('planted');
      });
    });
    peer().request();
  },
  'workers-exit': () => runWorkers('worker-exit', () => {}),
  'workers-terminated-in-batch': () => runWorkers('worker-spin', (worker) => worker.terminate()),
};

const workerScenarios = {
  /** Leaves with the socket open, from inside a batch. */
  'worker-exit': () => open(() => process.exit(0), 50_000, workerData.tag),
  /** Never returns from the batch: only termination ends it. */
  'worker-spin': () =>
    open(
      () => {
        parentPort.postMessage('in batch');
        for (;;);
      },
      50_000,
      workerData.tag,
    ),
};

/** Three workers with a socket each; each gets a request; `onMessage` when one reports. */
function runWorkers(scenario, onMessage) {
  const { socket, request } = peer();
  let gone = 0;
  for (let index = 0; index < 3; index++) {
    const tag = TAG + index * 0x100000;
    const worker = new Worker(self, { workerData: { scenario, tag } });
    worker.on('message', (message) => (message === 'open' ? request(tag) : onMessage(worker)));
    worker.on('exit', () => {
      if (++gone < 3) return;
      console.log('workers gone');
      socket.close();
    });
  }
}

if (isMainThread) scenarios[process.argv[2]]();
else {
  workerScenarios[workerData.scenario]();
  parentPort.postMessage('open');
}

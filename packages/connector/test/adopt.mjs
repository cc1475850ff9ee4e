/** The process after the one under test: serves the connector socket that it inherits as descriptor 3, one frame for one, and prints its port. */
import { createRequire } from 'node:module';

const addon = createRequire(import.meta.url)(`../prebuilds/linux-${process.arch}/dmlog_connector.node`);
const control = new ArrayBuffer(480);
const words = new Int32Array(control, 0, 104);
const onBatch = () => {
  for (let slot = 0; slot < words[0]; slot++) words[72 + slot] = Math.max(0, words[8 + slot]);
};
const handle = addon.open(new ArrayBuffer(32768), control, 7, 1 << 20, true, 0, onBatch, () => {}, 3);
addon.start(handle);
console.log(new Uint32Array(control)[2]);

import type { Mutation } from './mutate.js';

const STATE = 'packages/cluster/src/state.ts';
const CORE_LOG = 'packages/log/src/core-log.ts';

/** Bugs that a simulation has to find: each is one line of our own code, made wrong. Nothing in the tree is changed: they are put in while the simulation is built. */
export const PLANTED_BUGS: readonly Mutation[] = [
  {
    name: 'forget marks at a join',
    file: 'packages/cluster/src/snapshot.ts',
    on: 'cluster',
    find: '  node.marks.copyFrom(reader.bitmap(state.regionCount));',
    replace: '  reader.bitmap(state.regionCount);',
  },
  {
    name: 'a mark after another node marked the region counts for that node only',
    file: STATE,
    on: 'cluster',
    find: '    if (!node.marks.set(region)) return;',
    replace: '    if (this.isMarked(region) || !node.marks.set(region)) return;',
  },
  {
    name: 'answer FLUSH before media (cluster)',
    file: 'packages/cluster/src/evidence.ts',
    on: 'cluster',
    find: 'return hasImage ? Math.min(elsewhere, this.disk.marks) : elsewhere;',
    replace: 'return hasImage ? elsewhere : elsewhere;',
  },
  {
    name: 'answer FLUSH before media (one machine)',
    file: 'packages/log/src/disk-log.ts',
    on: 'one machine',
    find: 'if (covered && !(this.#writeUnderWay && this.#writingMarks)) return effects.ack();',
    replace: 'if (covered || this.#writeUnderWay) return effects.ack();',
  },
  {
    name: 'answer FLUSH at own delivery',
    file: 'packages/cluster/src/evidence.ts',
    on: 'cluster',
    find: 'let elsewhere = alone ? Number.POSITIVE_INFINITY : 0;',
    replace: 'let elsewhere = Number.POSITIVE_INFINITY;',
  },
  {
    name: "clear on the first node's CLEAR",
    file: STATE,
    on: 'cluster',
    find: '!this.inSync.get(region) || this.isMarked(region)) return;',
    replace: '!this.inSync.get(region)) return;',
  },
  {
    name: 'drop a lease at a death',
    file: STATE,
    on: 'cluster',
    find: '    this.release(node);\n    this.#orphan(node);\n    this.nodes.delete(nodeId);',
    replace: '    this.#orphan(node);\n    this.nodes.delete(nodeId);',
  },
  {
    name: 'lease a region that is marked',
    file: STATE,
    on: 'cluster',
    find: 'return this.work.get(region) && !this.leased.get(region) && !this.isMarked(region);',
    replace: 'return this.work.get(region) && !this.leased.get(region);',
  },
  {
    name: 'a repeated question gets more work',
    file: CORE_LOG,
    on: 'one machine',
    find: "if (this.#lease < 0 && this.#state === 'live' && this.#searchFrom < this.regionCount) {",
    replace: "if (this.#state === 'live' && this.#searchFrom < this.regionCount) {",
  },
  {
    name: 'hint too high (one machine)',
    file: CORE_LOG,
    on: 'one machine',
    find: 'effects.pair(0, done ? this.regionCount : this.regionCount - 1);',
    replace: 'effects.pair(0, done || true ? this.regionCount : this.regionCount - 1);',
  },
  {
    name: 'hint too high (cluster)',
    file: STATE,
    on: 'cluster',
    find: 'return Math.min(...firsts.map((region) => (region < 0 ? this.regionCount : region)));',
    replace: 'return Math.max(...firsts.map((region) => (region < 0 ? this.regionCount : region)));',
  },
  {
    name: 'union of clean after a partition',
    file: STATE,
    on: 'cluster',
    find: '    if (this.inSync.get(region)) this.#distrust(region);\n  }',
    replace: '  }',
  },
  {
    name: 'resume state of another boot',
    file: 'packages/daemon/src/state/runtime-state.ts',
    on: 'one machine',
    find: 'if (identity.bootId !== this.#bootId) {',
    replace: "if (identity.bootId === '') {",
  },
  {
    name: 'skip the last block of an image',
    file: 'packages/log/src/disk-log.ts',
    on: 'large disk log',
    find: 'if (this.#shadowClean(region)) this.#must.add(this.#blockOf(region));',
    replace:
      'if (this.#shadowClean(region) && this.#blockOf(region) < 3) this.#must.add(this.#blockOf(region));',
  },
  {
    name: 'treat PROCDOWN as NODEDOWN',
    file: 'packages/cluster/src/decide.ts',
    on: 'cluster',
    find: 'else if (reason === LeaveReason.PROCDOWN) state.daemonDown(nodeId);',
    replace: 'else if (reason === LeaveReason.PROCDOWN) state.nodeDown(nodeId);',
  },
  {
    name: 'treat NODEDOWN as PROCDOWN',
    file: 'packages/cluster/src/decide.ts',
    on: 'cluster',
    find: 'if (reason === LeaveReason.NODEDOWN) state.nodeDown(nodeId);',
    replace: 'if (reason === LeaveReason.NODEDOWN) state.daemonDown(nodeId);',
  },
  {
    name: 'answer without quorum',
    file: 'packages/cluster/src/member.ts',
    on: 'cluster',
    find: "return this.#phase === 'active' && this.#quorate;",
    replace: "return this.#phase === 'active';",
  },
  {
    name: 'clears reach the log device before the legs were flushed',
    file: 'packages/cluster/src/held-marks.ts',
    on: 'cluster',
    find: '    if (!done) {\n      this.#retryAtMs = nowMs + RETRY_MS;\n      return regions;\n    }',
    replace: '',
  },
  {
    name: 'answer IN_SYNC for a region that nobody recovered',
    file: CORE_LOG,
    on: 'one machine',
    find: 'effects.value(this.inSync.get(region) ? 1 : 0);',
    replace: 'effects.value(this.inSync.get(region) || this.clean.get(region) ? 1 : 1);',
  },
];

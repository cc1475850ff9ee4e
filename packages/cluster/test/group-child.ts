/** A member of a corosync group in a process of its own. */
import { serveLines } from '@dmlog/corosync-lab';
import { corosyncGroup } from '../src/group/corosync.js';
import { type Command, type RecordedEvent, Recorder } from './group-recorder.js';

/** Few, so that a flood meets the limit. */
const IN_FLIGHT_MESSAGES_MAX = 256;

const join = corosyncGroup({ maxInFlightMessages: IN_FLIGHT_MESSAGES_MAX });
const recorder = new Recorder((event) => say(event));

const methods = {
  /** Returns `node.pid`. */
  async join(name: string): Promise<string> {
    const group = await join(name, recorder.handlers);
    recorder.attach(group);
    return `${group.self.nodeId}.${group.self.pid}`;
  },
  do: (command: Command): void => recorder.do(command),
};
export type ChildMethods = typeof methods;

const say = serveLines<RecordedEvent>(methods);

import { SimulatedNetwork, type SimulationChances, TAME_NETWORK, WILD_NETWORK } from '../src/group/index.js';
import { describeOrderedGroup } from './group-compliance.js';
import type { Participant, TestCluster } from './group-participants.js';
import { randomFrom } from './group-random.js';
import { type RecordedEvent, Recorder } from './group-recorder.js';

const STEPS_MAX = 500_000;
const STEPS_BETWEEN_LOOKS = 50;

class SimulatedCluster implements TestCluster {
  readonly network: SimulatedNetwork;

  constructor(seed: number, chances: SimulationChances) {
    this.network = new SimulatedNetwork({ nodes: [1, 2, 3], random: randomFrom(seed), chances });
    this.network.run(STEPS_MAX);
  }

  join(nodeId: number, group: string): Promise<Participant> {
    const events: RecordedEvent[] = [];
    const recorder = new Recorder((event) => events.push(event));
    return Promise.resolve().then(() => {
      const member = this.network.join(nodeId, group, recorder.handlers);
      recorder.attach(member);
      return {
        nodeId,
        self: `${nodeId}.${member.self.pid}`,
        events,
        do: (command) => recorder.do(command),
        kill: () => this.network.killMember(member),
      };
    });
  }

  async until(what: string, condition: () => boolean): Promise<void> {
    for (let steps = 0; steps < STEPS_MAX; steps += STEPS_BETWEEN_LOOKS) {
      if (condition()) return;
      if (this.network.run(STEPS_BETWEEN_LOOKS) === STEPS_BETWEEN_LOOKS) continue;
      // Quiet: promises of `leave` and `join` are all that may still be under way.
      await new Promise(setImmediate);
      if (!condition() && !this.network.step()) throw new Error(`nothing happens any more: ${what}`);
    }
    throw new Error(`not within ${STEPS_MAX} steps: ${what}`);
  }

  partition = async (parts: number[][]) => this.network.partition(parts);
  heal = async () => this.network.heal();
  killEngine = async (nodeId: number) => this.network.killEngine(nodeId);
  startEngine = async (nodeId: number) => this.network.restartNode(nodeId);
}

for (const seed of [1, 2, 3, 4, 5]) {
  describeOrderedGroup(`simulated, seed ${seed}`, async () => new SimulatedCluster(seed, WILD_NETWORK));
}
describeOrderedGroup('simulated, tame', async () => new SimulatedCluster(6, TAME_NETWORK));

import { type GroupMember, LeaveReason, RING_SEQ_STEP, type RingId } from './group/contract.js';
import type { Geometry, Hello, StateIdentity } from './messages.js';
import { Presence, type ReplicatedState } from './state.js';

/** A hello and who sent it. Kept in the order of their delivery. */
export interface Introduced {
  readonly hello: Hello;
  readonly nonce: number;
}

export type Introductions = ReadonlyMap<number, Introduced>;

/**
 * What a round of hellos comes to: who goes on with the state it has, and with which; or who founds the log, when nobody has one. Of a state that is `doubtful` those who have it have been
 * out of touch, and somebody who took part then has not come back with what he knows: he may have gone on without them, and let his kernel write.
 */
export type Decision =
  | {
      readonly kind: 'continue';
      readonly doubtful: boolean;
      readonly chosen: ReadonlySet<number>;
      readonly state: StateIdentity;
      readonly geometry: Geometry;
    }
  | { readonly kind: 'found'; readonly founder: number; readonly geometry: Geometry };

/** True when every member that the ring can hear has introduced itself. A member list can name ghosts; the ring's node list does not (facts). */
export function isComplete(
  members: readonly GroupMember[],
  ringNodes: readonly number[],
  hellos: Introductions,
): boolean {
  return members.every(({ nodeId }) => hellos.has(nodeId) || !ringNodes.includes(nodeId));
}

/** One of those who have introduced themselves to the members as they are waits no longer for the others. */
export function someoneIsImpatient(hellos: Introductions): boolean {
  for (const { hello } of hellos.values()) if (hello.impatient) return true;
  return false;
}

/**
 * The same for all who saw the same hellos. Of several histories the one goes on that a ring with quorum agreed on last; in it the longest; the founder is
 * the one whose hello came first. Null if there are no hellos, or those who may have gone on with the state that would be chosen are still waited for.
 */
export function decide(hellos: Introductions, ring: RingId, ringNodes: readonly number[]): Decision | null {
  let best: StateIdentity | null = null;
  let geometry: Geometry | null = null;
  for (const { hello } of hellos.values()) {
    if (hello.state === null || (best !== null && compare(hello.state, best) <= 0)) continue;
    best = hello.state;
    geometry = hello.geometry;
  }
  if (best === null || geometry === null) {
    for (const [founder, { hello }] of hellos) return { kind: 'found', founder, geometry: hello.geometry };
    return null;
  }
  const chosen = new Set<number>();
  for (const [nodeId, { hello }] of hellos) {
    if (hello.state !== null && compare(hello.state, best) === 0) chosen.add(nodeId);
  }
  const verdict = isLastWord(hellos, chosen, best, ring, ringNodes) ? 'good' : verdictOf(hellos, chosen);
  return verdict === 'wait'
    ? null
    : { kind: 'continue', chosen, state: best, geometry, doubtful: verdict === 'doubtful' };
}

/**
 * Whether nobody can have gone on with the state of `chosen` in a ring with quorum of which they know nothing. Such a ring, and this one, have a node in common.
 * If that was in none since they agreed, the numbers of the rings tell. And if all nodes here are of `chosen`, each knows the rings that it was in.
 */
function isLastWord(
  hellos: Introductions,
  chosen: ReadonlySet<number>,
  { agreedRing }: StateIdentity,
  ring: RingId,
  ringNodes: readonly number[],
): boolean {
  const stayed = [...chosen].flatMap((nodeId) => {
    const hello = hellos.get(nodeId)?.hello;
    return hello === undefined || hello.wasOut ? [] : [hello];
  });
  if (stayed.length === 0) return false;
  if (ring.seq === agreedRing.seq + RING_SEQ_STEP) return true;
  const here = (nodeId: number) => (hellos.get(nodeId)?.hello.state ?? null) !== null;
  return (
    stayed.length === chosen.size &&
    ringNodes.every((nodeId) => chosen.has(nodeId)) &&
    stayed.every(({ suspects }) => suspects.every(here))
  );
}

/** What may have been missed is known if all who took part with `chosen` are here with what they know. */
function verdictOf(hellos: Introductions, chosen: ReadonlySet<number>): 'good' | 'wait' | 'doubtful' {
  let waits = false;
  let impatient = false;
  let lost = false;
  for (const nodeId of chosen) {
    const hello = hellos.get(nodeId)?.hello;
    if (hello === undefined) continue;
    impatient ||= hello.impatient;
    for (const needed of hello.needs) {
      const other = hellos.get(needed);
      if (other === undefined) waits = true;
      else if (other.hello.state === null) lost = true;
    }
  }
  if (lost || (waits && impatient)) return 'doubtful';
  return waits ? 'wait' : 'good';
}

function compare(a: StateIdentity, b: StateIdentity): number {
  return (
    a.agreedRing.seq - b.agreedRing.seq ||
    a.agreedRing.nodeId - b.agreedRing.nodeId ||
    a.position - b.position ||
    a.hashHigh - b.hashHigh ||
    a.hashLow - b.hashLow
  );
}

/** Null when a node may take part, else why not. */
export function geometryProblem(theirs: Geometry, ours: Geometry): string | null {
  if (theirs.kind !== ours.kind) return `its log type is ${theirs.kind}, the others' is ${ours.kind}`;
  if (theirs.targetSectors !== ours.targetSectors) {
    return `its mirror has ${theirs.targetSectors} sectors, the others' have ${ours.targetSectors}`;
  }
  if (theirs.regionSizeSectors !== ours.regionSizeSectors) {
    return `its region size is ${theirs.regionSizeSectors} sectors, the others' is ${ours.regionSizeSectors}`;
  }
  return theirs.regionCount === ours.regionCount
    ? null
    : `it counts ${theirs.regionCount} regions, the others ${ours.regionCount}`;
}

/**
 * Carries over to a new ring what became of the nodes that the state knows: those who continue stay, the others are absent, gone or dead
 * (design rule 19). Equal for all who continue: it depends on the hellos and the ring alone.
 */
export function enterRing(
  state: ReplicatedState,
  ring: RingId,
  ringNodes: readonly number[],
  hellos: Introductions,
  chosen: ReadonlySet<number>,
): void {
  state.begins([...chosen].sort((a, b) => a - b).map((nodeId) => hellos.get(nodeId)?.nonce ?? 0));
  state.position++;
  state.hash.mix(ring.nodeId);
  state.hash.mix(ring.seq >>> 0);
  const gone = goneNodes(hellos, chosen);
  for (const nodeId of [...state.nodes.keys()].sort((a, b) => a - b)) {
    const present = hellos.get(nodeId);
    if (present !== undefined) {
      if (present.hello.bootId !== state.nodes.get(nodeId)?.bootId) state.nodeDown(nodeId);
      else if (!chosen.has(nodeId)) state.daemonDown(nodeId);
      continue;
    }
    const reason = ringNodes.includes(nodeId) ? gone.get(nodeId) : LeaveReason.NODEDOWN;
    leaveState(state, nodeId, reason ?? LeaveReason.PROCDOWN);
  }
}

/** What the state makes of a node that left for `reason`. */
export function leaveState(state: ReplicatedState, nodeId: number, reason: number): void {
  // Known already as a node whose daemon died: its kernel is unheard of since, a later "left" of the daemon says nothing of it.
  if (reason === LeaveReason.NODEDOWN) state.nodeDown(nodeId);
  else if (reason === LeaveReason.PROCDOWN) state.daemonDown(nodeId);
  else if (state.nodes.get(nodeId)?.presence !== Presence.ABSENT) state.nodeLeft(nodeId);
}

/** What those who continue saw of others' leaving; the worst word counts. */
function goneNodes(hellos: Introductions, chosen: ReadonlySet<number>): Map<number, number> {
  const gone = new Map<number, number>();
  for (const [nodeId, { hello }] of hellos) {
    if (!chosen.has(nodeId)) continue;
    for (const [left, reason] of hello.gone) {
      if (gone.get(left) !== LeaveReason.NODEDOWN) gone.set(left, reason);
    }
  }
  return gone;
}

/** Chances, 0 to 1, of what a network may do at the moments when it can. */
export interface SimulationChances {
  /** A ring change is taken when it is drawn; else something else happens first. Small: faults last long. */
  readonly ringChange: number;
  /** A ring forms from a part of those who can hear each other, and from all of them only later. */
  readonly partialRing: number;
  /** A ring that some have announced and others not yet loses its token and forms anew; drawn whenever one of its nodes does something. */
  readonly unstable: number;
  /** What was accepted before a ring change is ordered in the new ring before this is announced, for each node that has any. */
  readonly early: number;
  /** The first message after a merge was cut by it, for each node that has any. */
  readonly straddle: number;
  /** A node that had not announced its ring when it broke never does, though others may have. */
  readonly abort: number;
  /**
   * Nodes that lost each other and met again, all in rings that were never announced, take each other for having stayed together: corosync compares the
   * ring that it announced last with those who came along from the last one that it was in.
   */
  readonly detour: number;
  /**
   * The processes of a node that came and went within one synchronisation are listed by one that was told of them, until that node comes again or for
   * ever: corosync before the fix of July 2026. Not part of {@link WILD_NETWORK}.
   */
  readonly ghost: number;
}

/** Everything that corosync was seen or read to do, but ghosts. */
export const WILD_NETWORK: SimulationChances = {
  ringChange: 0.25,
  partialRing: 0.1,
  unstable: 0.1,
  early: 0.25,
  straddle: 0.25,
  abort: 0.5,
  detour: 1,
  ghost: 0,
};

/** Virtual synchrony without exceptions: members that go from one ring to the same next one have delivered the same. */
export const TAME_NETWORK: SimulationChances = {
  ...WILD_NETWORK,
  partialRing: 0,
  early: 0,
  straddle: 0,
  abort: 0,
};

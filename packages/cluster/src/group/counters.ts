/** How often the simulation reached each of the situations that a user of CPG has to survive. A test without them proves little. */
export class SimulationCounters {
  /** Messages that got a place in some order. */
  messages = 0;
  /** Events handed to members. */
  events = 0;
  rings = 0;
  /** A ring formed from a part of those that could hear each other: the rest follows later. */
  partialRings = 0;
  /** A node went on from a ring that it never announced to its members. */
  ringsNeverSeen = 0;
  /** Of those: some other node did announce it. */
  ringsSeenByOthersOnly = 0;
  /** Messages of such a ring that were delivered without its confchg. */
  deliveredWithoutRing = 0;
  /** Messages of such a ring that were not delivered, though nodes that came along delivered them. */
  lostWithoutRing = 0;
  /** Two nodes, counted at both, that take each other for having stayed together, though they have not been in the same rings. */
  detoursUnnoticed = 0;
  /** Messages that reached a node only when the ring had broken, from others that went on with it. */
  recovered = 0;
  /** Messages that their sender had delivered when the rest of its ring went on without them: agreed delivery, not safe delivery. */
  deliveredBySenderOnly = 0;
  /** Messages with a place in the order that nobody had delivered when the rest of the ring went on without them. */
  lostUndelivered = 0;
  /** Messages accepted while the ring of the sender was broken or not announced yet. */
  acceptedWhileBroken = 0;
  /** Messages delivered (by their sender) in a later ring than the one that it had been told of when it sent them. */
  deliveredInLaterRing = 0;
  /** Messages that straddle a merge: not delivered at one node, while others of the same ring deliver them. */
  straddlersDropped = 0;
  /** Messages ordered in a new ring before it was announced, and delivered in the old view. */
  deliveredBeforeAnnouncement = 0;
  /** Of those: at a node that had not been in the sender's ring, so that it misses what the sender sent in between. */
  deliveredWithGap = 0;
  /** Of the messages before the announcement: not delivered at a node that did not know the sender's node as a member. */
  droppedFromUnknownNode = 0;
  /** Messages delivered in a ring without quorum. */
  deliveredWithoutQuorum = 0;
  /** One confchg with several members in `left`. */
  severalLeft = 0;
  /** One confchg with several members in `joined`. */
  severalJoined = 0;
  /** Ring changes with both a left and a joined confchg. */
  leftThenJoined = 0;
  /** The same (node, pid) in both: the others, seen by one who was away; or a new process with an old one's numbers. */
  leftAndBack = 0;
  /** Members that a node still listed, and that a synchronisation found to be gone. */
  zombiesRemoved = 0;
  /** Members that a node lists though their node is not in its ring. */
  ghosts = 0;
  /** A send was refused because too many messages were under way. */
  refusedSends = 0;
  drains = 0;
  /** Farthest that a member was behind its own engine, in events. */
  lagMax = 0;
  /** A process joined with the numbers of an earlier one. */
  reusedPids = 0;
}

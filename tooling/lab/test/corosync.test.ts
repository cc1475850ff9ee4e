import { expect, it } from 'vitest';
import { corosyncConf, parseRingState } from '../src/corosync.js';

/** `corosync-quorumtool -s -i` of corosync 3.1.7. */
const STATUS = `Quorum information
------------------
Date:             Sat Nov 21 11:33:58 2026
Quorum provider:  corosync_votequorum
Nodes:            2
Node ID:          1
Ring ID:          1.a
Quorate:          Yes

Votequorum information
----------------------
Expected votes:   2
Highest expected: 2
Total votes:      2
Quorum:           2  
Flags:            Quorate 

Membership information
----------------------
    Nodeid      Votes Name
         2          1 10.77.0.2
         1          1 10.77.0.1 (local)
`;

it('reads ring, members and quorum', () => {
  expect(parseRingState(STATUS)).toEqual({ ringId: '1.a', quorate: true, members: [1, 2] });
  const alone = STATUS.replace('Yes', 'No').replace(/^ +2 .*\n/m, '');
  expect(parseRingState(alone)).toEqual({ ringId: '1.a', quorate: false, members: [1] });
});

it.each(['', 'Cannot initialize QUORUM service\n', STATUS.slice(0, 250)])('reads no ring from %j', (text) => {
  expect(parseRingState(text)).toBeUndefined();
});

it('writes a configuration with votes', () => {
  const nodes = [
    { id: 1, name: 'n1', address: '10.77.0.1', votes: 2 },
    { id: 2, name: 'n2', address: '10.77.0.2' },
  ];
  const conf = corosyncConf({ nodes, tokenMs: 300, twoNode: false });
  expect(conf).toMatch(
    / node \{\n +nodeid: 1\n +name: n1\n +ring0_addr: 10\.77\.0\.1\n +quorum_votes: 2\n +\}\n/,
  );
  expect(conf).toContain(' quorum_votes: 1\n');
  expect(conf).toContain(' token: 300\n');
  expect(conf).not.toContain('two_node');
  expect(corosyncConf({ nodes, tokenMs: 300, twoNode: true })).toContain(' two_node: 1\n');
  // Its parser ignores what shares a line with a brace.
  for (const line of conf.split('\n').filter((text) => /[{}]/.test(text)))
    expect(line).toMatch(/^ *(\w+ \{|\})$/);
});

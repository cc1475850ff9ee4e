import { describe, it } from 'vitest';
import { tell } from './story.js';

describe('stories of marks', () => {
  it('a region that two nodes write is clean after the second one has finished, not after the first', () => {
    tell(`
      up 1 2
      1 marks 5
      2 marks 5
      writing 1: 5
      writing 2: 5
      1 clears 5
      dirty 5
      2 clears 5
      clean 5
    `);
  });

  it('… also when a third node, with the lowest id, joins in between', () => {
    tell(`
      up 2 3
      2 marks 5
      3 marks 5
      2 clears 5
      up 1
      dirty 5
      3 clears 5
      clean 5
    `);
  });

  it.each(['kill', 'leave', 'crash'])('… and when that node then goes: %s', (goes) => {
    tell(`
      up 2 3
      2 marks 5
      3 marks 5
      up 1
      2 clears 5
      ${goes} 1
      dirty 5
      3 clears 5
      clean 5
    `);
  });

  it('a repeated mark is one', () => {
    tell(`
      up 1 2
      1 marks 5
      1 marks 5
      1 clears 5
      clean 5
    `);
  });
});

describe('stories of deaths', () => {
  it("a daemon's death is not a kernel's: its marks stay, and go when its daemon is back and says so", () => {
    tell(`
      up 1 2
      1 marks 5
      kill 1
      dirty 5
      in sync 5
      up 1
      dirty 5
      reload 1
      clean 5
    `);
  });

  it('the marks of a machine that crashed are in doubt, and work once every other table was reloaded', () => {
    tell(`
      up 1 2 3
      1 marks 5
      crash 1
      dirty 5
      stale 5
      in sync 5
      reload 2
      in sync 5
      reload 3
      not in sync 5
    `);
  });

  it('a region in doubt that a survivor is writing waits for the end of that', () => {
    tell(`
      up 1 2 3
      1 marks 5
      2 marks 5
      crash 1
      reload 3
      reload 2
      not in sync 5
    `);
    tell(`
      up 1 2 3
      1 marks 5
      crash 1
      reload 2
      2 marks 5
      reload 3
      in sync 5
      2 clears 5
      not in sync 5
    `);
  });

  it('a machine that crashed and is back with another boot id has lost its marks', () => {
    tell(`
      up 1 2
      2 marks 5
      kill 2
      dirty 5
      crash 2
      up 2
      stale 5
    `);
  });

  it('the image has one writer, who stays until it goes or hands over', () => {
    tell(`
      up 2 3
      writer 2
      up 1
      writer 2
      kill 2
      writer 1
    `);
  });
});

describe('stories of partitions', () => {
  it('without quorum no mark is committed; afterwards it is', () => {
    tell(`
      up 1 2 3
      cut 1
      1 marks 5
      writing 1:
      2 marks 6
      writing 2: 6
      heal
      writing 1: 5
      dirty 5
      dirty 6
    `);
  });

  it('who was cut off comes back with its marks, and they are in doubt', () => {
    tell(`
      up 1 2 3
      1 marks 5
      cut 1
      stale 5
      reload 2
      reload 3
      not in sync 5
      heal
      dirty 5
    `);
  });

  it("what became work while a node was away is nobody's work before its kernel, which takes it for in sync, was reloaded", () => {
    tell(`
      up 1 2 3
      2 marks 7
      3 marks 6
      cut 2
      crash 3
      up 3
      reload 1
      not in sync 6
      heal
      given up 6
      reload 1
      reload 3
      given up 6
      reload 2
      not in sync 6
    `);
  });

  it('a node that had nothing to do is away and comes back: nothing is in doubt', () => {
    tell(`
      up 1 2 3
      cut 2
      heal
      clean 9
    `);
  });

  it('who was out of touch believes nothing if the one who may have gone on has not come back with what he knows', () => {
    tell(`
      up 1 2
      cut 1
      2 marks 5
      2 clears 5
      leave 2
      heal
      up 2
      stale 5
      stale 0
      in sync 5
    `);
  });

  it('… and goes on at once if all who can be heard have been in no other company with quorum', () => {
    tell(`
      up 1 2 3
      1 marks 5
      cut 1 2 3
      meet 1 2
      clean 4
      dirty 5
      1 marks 6
      writing 1: 5 6
    `);
  });
});

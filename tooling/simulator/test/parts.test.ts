import { describe, expect, it } from 'vitest';
import { mutate, mutatedFile, ROOT } from '../src/index.js';
import { PLANTED_BUGS } from '../src/planted-bugs.js';
import { Random } from '../src/random.js';
import { parseSteps, textOfSteps } from '../src/text.js';

describe('planting a bug', () => {
  const bug = { name: 'b', file: 'f.ts', find: 'one', replace: 'two' };

  it('exchanges the line', () => {
    expect(mutate('a one b', bug)).toBe('a two b');
  });

  it.each(['a b', 'one one'])('fails where the line does not stand once: %s', (source) => {
    expect(() => mutate(source, bug)).toThrow('not once');
  });

  it.each(PLANTED_BUGS.map((one) => [one.name, one] as const))('fits its source: %s', (_, one) => {
    expect(mutatedFile(ROOT, one)).not.toBe('');
  });
});

describe('chance', () => {
  const draw = (seed: number, stream: number) => {
    const random = new Random(seed, stream);
    return [random.next(), random.below(100), random.next()];
  };

  it('is the same for the same seed and step', () => {
    expect(draw(7, 9)).toEqual(draw(7, 9));
  });

  it('of a step does not depend on what was drawn before it', () => {
    const random = new Random(7, 1);
    random.next();
    random.begin(9);
    expect(random.next()).toBe(draw(7, 9)[0]);
  });

  it('is another one for other seeds and steps', () => {
    expect(draw(7, 9)).not.toEqual(draw(8, 9));
    expect(draw(7, 9)).not.toEqual(draw(7, 10));
  });
});

it('lists of steps are written and read', () => {
  expect(textOfSteps([1, 2, 3, 7, 9, 10])).toBe('1-3,7,9-10');
  expect(parseSteps('1-3,7,9-10')).toEqual([1, 2, 3, 7, 9, 10]);
  expect(() => parseSteps('a')).toThrow(RangeError);
});

/** In the bundle, in the place of `node:crypto` for the daemon's cluster part: digests as they are, chance from the run. */
export { createHash } from 'node:crypto';

let draw: () => number = () => 0;

export function drawFrom(random: () => number): void {
  draw = random;
}

export function randomInt(from: number, end: number): number {
  return from + Math.floor(draw() * (end - from));
}

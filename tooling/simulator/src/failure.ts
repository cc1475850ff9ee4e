/** A promise of the project was broken: an invariant, or an exception that nobody caught. */
export class SimulationFailure extends Error {
  override readonly name = 'SimulationFailure';
  /** `I1` … `I4`, `state` for a numbered invariant of a state machine, `crash` for an exception. */
  readonly invariant: string;
  readonly node: number | null;
  readonly region: number | null;

  constructor(
    invariant: string,
    message: string,
    where: { node?: number; region?: number } = {},
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.invariant = invariant;
    this.node = where.node ?? null;
    this.region = where.region ?? null;
  }
}

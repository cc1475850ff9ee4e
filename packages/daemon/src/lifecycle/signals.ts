import { constants } from 'node:os';

export type StopSignal = 'SIGTERM' | 'SIGINT';
/** Asks for a hand-over: what `systemctl reload` sends. */
export const HAND_OVER_SIGNAL = 'SIGHUP';
export const STOP_SIGNALS: readonly StopSignal[] = ['SIGTERM', 'SIGINT'];

/** What is needed of `process`; tests give an emitter. */
export interface SignalSource {
  on(signal: StopSignal | typeof HAND_OVER_SIGNAL, listener: () => void): unknown;
  off(signal: StopSignal | typeof HAND_OVER_SIGNAL, listener: () => void): unknown;
}

/**
 * Calls `first` at the first SIGTERM or SIGINT: an orderly stop. Any later one calls `again` with exit code 128 + its number: the operator does
 * not want to wait. Returns a function that stops listening.
 */
export function onStopSignals(
  first: (signal: StopSignal) => void,
  again: (exitCode: number, signal: StopSignal) => void,
  source: SignalSource = process,
): () => void {
  let seen = false;
  const listeners = STOP_SIGNALS.map((signal) => {
    const listener = (): void => {
      if (seen) again(128 + constants.signals[signal], signal);
      else {
        seen = true;
        first(signal);
      }
    };
    source.on(signal, listener);
    return [signal, listener] as const;
  });
  return () => {
    for (const [signal, listener] of listeners) source.off(signal, listener);
  };
}

/** A log's luid as operators see it: `0x` and 16 hexadecimal digits; it does not fit a double. */
export function luidOf({ luidLow, luidHigh }: { luidLow: number; luidHigh: number }): string {
  const hex = (word: number) => word.toString(16).padStart(8, '0');
  return `0x${hex(luidHigh)}${hex(luidLow)}`;
}

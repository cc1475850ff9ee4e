import { CommandFailure, ExitCode } from './exit-codes.js';

const UNIT_SHIFTS: Readonly<Record<string, number>> = { '': 0, k: 10, m: 20, g: 30, t: 40 };

/** `512K`, `1m`, `4096`: bytes, in binary units; `1024s`: sectors of 512 bytes. */
export function parseBytes(text: string, what: string): number {
  const [, digits, unit] = /^([0-9]{1,12})(s|[kmgt]?)(?:i?b)?$/i.exec(text) ?? [];
  if (digits === undefined || unit === undefined) {
    throw new CommandFailure(
      ExitCode.USAGE,
      `${what} ${JSON.stringify(text)}: give bytes, as 524288, 512K, 1M or 1024s`,
    );
  }
  return (
    Number(digits) * (unit.toLowerCase() === 's' ? 512 : 2 ** (UNIT_SHIFTS[unit.toLowerCase()] as number))
  );
}

/** `1h 2m`, `3m 4s`, `5s`; `-` for what never ends. */
export function formatDuration(seconds: number): string {
  if (!Number.isFinite(seconds) || seconds < 0) return '-';
  const whole = Math.ceil(seconds);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  if (hours > 0) return `${hours}h ${minutes}m`;
  return minutes > 0 ? `${minutes}m ${whole % 60}s` : `${whole}s`;
}

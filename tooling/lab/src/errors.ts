/** Stable reasons of a lab failure. `ERR_LAB_HOST`: the host lacks something. `ERR_LAB_LOST`: the machine ended while it was needed. */
export type LabErrorCode =
  | 'ERR_LAB_HOST'
  | 'ERR_LAB_DOWNLOAD'
  | 'ERR_LAB_USAGE'
  | 'ERR_LAB_BOOT'
  | 'ERR_LAB_LOST'
  | 'ERR_LAB_COMMAND'
  | 'ERR_LAB_TIMEOUT';

/** Every failure of the lab itself. The message says what was done, what came back and the end of the machine's console. */
export class LabError extends Error {
  override readonly name = 'LabError';
  readonly code: LabErrorCode;

  constructor(code: LabErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** The last `count` lines of a text, with a note on what was left out. */
export function lastLines(text: string, count: number): string {
  const lines = text.trimEnd().split('\n');
  if (lines.length <= count) return lines.join('\n');
  return `… (${lines.length - count} lines before)\n${lines.slice(-count).join('\n')}`;
}

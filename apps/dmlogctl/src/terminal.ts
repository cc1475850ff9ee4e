import type { Terminal } from './environment.js';

/** The process's terminal; null where standard input or output is none. */
export function processTerminal(): Terminal | null {
  const { stdin, stdout } = process;
  if (stdin.isTTY !== true || stdout.isTTY !== true) return null;
  return {
    get columns() {
      return stdout.columns;
    },
    get rows() {
      return stdout.rows;
    },
    onKey: (listener) => {
      const onData = (data: Buffer): void => {
        for (const key of keysOf(data.toString('latin1'))) listener(key);
      };
      stdin.setRawMode(true);
      stdin.on('data', onData);
      return () => {
        stdin.off('data', onData);
        stdin.setRawMode(false);
        stdin.pause();
      };
    },
    onResize: (listener) => {
      stdout.on('resize', listener);
      return () => void stdout.off('resize', listener);
    },
  };
}

const SEQUENCES: Readonly<Record<string, string>> = {
  '\x1b[A': 'up',
  '\x1b[B': 'down',
  '\x1bOA': 'up',
  '\x1bOB': 'down',
  '\x03': 'interrupt',
};

/** What was typed: `up`, `down`, `interrupt`, or a character each. */
export function* keysOf(input: string): Iterable<string> {
  for (let at = 0; at < input.length; ) {
    const sequence = Object.keys(SEQUENCES).find((known) => input.startsWith(known, at));
    yield sequence === undefined ? (input[at] as string) : (SEQUENCES[sequence] as string);
    at += sequence?.length ?? 1;
  }
}

const ENTER = '\x1b[?1049h\x1b[?25l\x1b[2J';
const LEAVE = '\x1b[?25h\x1b[?1049l';

/** Draws frames on the terminal's second screen. Only lines that changed are written, in one write: nothing flickers. */
export class Screen {
  readonly #out: (text: string) => void;
  #shown: string[] = [];

  constructor(out: (text: string) => void) {
    this.#out = out;
    out(ENTER);
  }

  draw(lines: readonly string[]): void {
    let text = '';
    for (let row = 0; row < Math.max(lines.length, this.#shown.length); row++) {
      const line = lines[row] ?? '';
      if (line !== this.#shown[row]) text += `\x1b[${row + 1};1H${line}\x1b[K`;
    }
    this.#shown = [...lines];
    if (text !== '') this.#out(text);
  }

  /** The terminal has another size: everything is drawn anew. */
  forget(): void {
    this.#shown = [];
    this.#out('\x1b[2J');
  }

  close(): void {
    this.#out(LEAVE);
  }
}

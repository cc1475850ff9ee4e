import { PNG } from 'pngjs';

/** One cell of a picture of regions. */
export interface PictureCell {
  readonly regions: number;
  readonly dirty: number;
  /** Of the dirty ones, those out of sync; 0 where that is not known, as of an image. */
  readonly outOfSync: number;
  readonly differing: number;
}

/** From all clean to all dirty. */
const SHADES = ['█', '▓', '▒', '░', '·'] as const;

/** `█` all clean, `▓` `▒` `░` fewer and fewer, `·` all dirty; `×` where images differ. */
export function cellCharacter({ regions, dirty, differing }: PictureCell): string {
  if (differing > 0) return '×';
  if (dirty === 0) return SHADES[0];
  if (dirty >= regions) return SHADES[4];
  return SHADES[1 + Math.min(2, Math.floor((dirty / regions) * 3))] as string;
}

/** Lines of `columns` characters, each with the number of its first region. */
export function textPicture(cells: readonly PictureCell[], columns: number): string[] {
  const lines: string[] = [];
  const width = String(cells.reduce((sum, { regions }) => sum + regions, 0)).length;
  let region = 0;
  for (let at = 0; at < cells.length; at += columns) {
    const line = cells.slice(at, at + columns);
    lines.push(`${String(region).padStart(width)}  ${line.map(cellCharacter).join('')}`);
    for (const { regions } of line) region += regions;
  }
  return lines;
}

type Colour = readonly [red: number, green: number, blue: number];
const CLEAN: Colour = [46, 125, 50];
const DIRTY: Colour = [255, 179, 0];
const DIFFERS: Colour = [183, 28, 28];
const EMPTY: Colour = [224, 224, 224];

/** A picture of one pixel per cell, `columns` wide, enlarged `scale` times: green clean, amber dirty, red where images differ. */
export function pngPicture(cells: readonly PictureCell[], columns: number, scale: number): Uint8Array {
  const rows = Math.max(1, Math.ceil(cells.length / columns));
  const png = new PNG({ width: columns * scale, height: rows * scale });
  for (let y = 0; y < png.height; y++) {
    for (let x = 0; x < png.width; x++) {
      const cell = cells[Math.floor(y / scale) * columns + Math.floor(x / scale)];
      const [red, green, blue] = cell === undefined ? EMPTY : colourOf(cell);
      png.data.set([red, green, blue, 255], (y * png.width + x) * 4);
    }
  }
  return PNG.sync.write(png);
}

function colourOf({ regions, dirty, differing }: PictureCell): Colour {
  if (differing > 0) return DIFFERS;
  if (dirty === 0) return CLEAN;
  // A single dirty region among a million must be seen.
  const share = 0.35 + 0.65 * (dirty / regions);
  return CLEAN.map((clean, i) =>
    Math.round(clean + ((DIRTY[i] as number) - clean) * share),
  ) as unknown as Colour;
}

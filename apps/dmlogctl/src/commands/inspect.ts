import { writeFileSync } from 'node:fs';
import { RegionBitmap } from '@dmlog/bitmap';
import { formatBytes } from '@dmlog/daemon';
import { IMAGE_VERSION, imageBytes } from '@dmlog/log';
import type { Environment } from '../environment.js';
import { ExitCode } from '../exit-codes.js';
import { type Image, readImage } from '../image-file.js';
import { type PictureCell, pngPicture, textPicture } from '../region-picture.js';
import { RUNS_SHOWN, runsOf, runsText } from '../runs.js';

/** Cells of a picture in text: 16 lines. */
const TEXT_COLUMNS = 64;
const TEXT_CELLS = TEXT_COLUMNS * 16;
/** Pixels of a PNG's side before it is enlarged. */
const PNG_COLUMNS = 256;
const PNG_CELLS = PNG_COLUMNS * 256;
/** Small pictures are enlarged to about this width. */
const PNG_WIDTH = 512;

export interface InspectFlags {
  readonly map?: boolean;
  readonly png?: string;
  readonly difference?: string;
  readonly json?: boolean;
}

/** Shows the image at `path`, and what differs from another one. */
export async function inspect(path: string, flags: InspectFlags, { out }: Environment): Promise<number> {
  const image = await readImage(path);
  const other = flags.difference === undefined ? null : await readImage(flags.difference);
  const differing = other === null ? null : differenceOf(image, other);
  if (flags.png !== undefined) {
    const cells = cellsOf(image, differing, PNG_CELLS);
    const columns = Math.min(PNG_COLUMNS, Math.ceil(Math.sqrt(cells.length)));
    writeFileSync(flags.png, pngPicture(cells, columns, Math.max(1, Math.floor(PNG_WIDTH / columns))));
  }
  const isSame =
    other === null || (differing?.count === 0 && image.clean.regionCount === other.clean.regionCount);
  if (flags.json === true) out(`${JSON.stringify(asJson(image, other, differing), null, 2)}\n`);
  else
    out(
      `${[...describe(image), ...(flags.map === true ? mapLines(image, differing) : []), ...compare(image, other, differing)].join('\n')}\n`,
    );
  return isSame ? ExitCode.OK : ExitCode.FOUND;
}

export interface VerifyFlags {
  readonly regions?: number;
  readonly clean?: boolean;
  readonly json?: boolean;
}

/** Checks the image at `path`: whatever is wrong with it is said, and makes the exit code 1. What is no image at all fails earlier. */
export async function verify(path: string, flags: VerifyFlags, { out }: Environment): Promise<number> {
  const image = await readImage(path);
  const findings = problemsOf(image, flags);
  if (flags.json === true) {
    out(`${JSON.stringify({ ...asJson(image, null, null), findings }, null, 2)}\n`);
  } else {
    const verdict =
      findings.length === 0
        ? [`${path}: a log of ${image.clean.regionCount} regions, nothing is wrong`]
        : findings;
    out(`${verdict.join('\n')}\n`);
  }
  return findings.length === 0 ? ExitCode.OK : ExitCode.FOUND;
}

function problemsOf({ path, header, clean, strayBits }: Image, flags: VerifyFlags): string[] {
  const problems: string[] = [];
  if (header.version !== IMAGE_VERSION) {
    problems.push(
      `${path}: format version ${header.version}, written on a machine of long ago; it is read as ${IMAGE_VERSION}`,
    );
  }
  if (flags.regions !== undefined && clean.regionCount !== flags.regions) {
    problems.push(
      `${path}: ${clean.regionCount} regions, the mirror has ${flags.regions}: it grew or shrank since this log was last resumed, or this is another mirror's log`,
    );
  }
  if (strayBits > 0) {
    problems.push(
      `${path}: ${strayBits} bits are set behind the last region: nobody reads them, and the next resume clears them`,
    );
  }
  if (flags.clean === true && clean.zeros > 0) {
    problems.push(
      `${path}: ${clean.zeros} of ${clean.regionCount} regions are dirty: a crash now has them resynced`,
    );
  }
  return problems;
}

/** Regions that one image calls clean and the other does not; those that only one has count as different. */
function differenceOf(image: Image, other: Image): RegionBitmap {
  const differing = new RegionBitmap(Math.max(image.clean.regionCount, other.clean.regionCount));
  const a = image.clean.bytes;
  const b = other.clean.bytes;
  differing.load(
    Uint8Array.from({ length: differing.bytes.byteLength }, (_, i) => (a[i] ?? 0) ^ (b[i] ?? 0)),
  );
  const shorter = Math.min(image.clean.regionCount, other.clean.regionCount);
  if (shorter < differing.regionCount) differing.setRange(shorter, differing.regionCount);
  return differing;
}

/** At most `cellsMax` cells of equal size. */
function cellsOf({ clean }: Image, differing: RegionBitmap | null, cellsMax: number): PictureCell[] {
  const { regionCount } = clean;
  const perCell = Math.ceil(regionCount / cellsMax);
  return Array.from({ length: Math.ceil(regionCount / perCell) }, (_, cell) => {
    const from = cell * perCell;
    const to = Math.min(regionCount, from + perCell);
    return {
      regions: to - from,
      dirty: to - from - clean.countRange(from, to),
      outOfSync: 0,
      differing: differing?.countRange(from, to) ?? 0,
    };
  });
}

function describe({ path, sizeBytes, header, clean }: Image): string[] {
  const { regionCount } = clean;
  const share = ((clean.count / regionCount) * 100).toFixed(2);
  return [
    `image       ${path} (${formatBytes(sizeBytes)}, of which ${formatBytes(imageBytes(regionCount, 512))} are used)`,
    `format      version ${header.version}`,
    `regions     ${regionCount}`,
    `clean       ${clean.count} (${share} %)`,
    `dirty       ${clean.zeros}${runsText(clean, false)}`,
  ];
}

function mapLines(image: Image, differing: RegionBitmap | null): string[] {
  const cells = cellsOf(image, differing, TEXT_CELLS);
  const perCell = cells[0]?.regions ?? 1;
  const legend = differing === null ? '' : ', × differs';
  return [
    '',
    `each character ${perCell} region${perCell === 1 ? '' : 's'}: █ clean, ▓▒░ partly, · dirty${legend}`,
    ...textPicture(cells, TEXT_COLUMNS),
  ];
}

function compare(image: Image, other: Image | null, differing: RegionBitmap | null): string[] {
  if (other === null || differing === null) return [];
  const lines = [''];
  if (other.clean.regionCount !== image.clean.regionCount) {
    lines.push(`${other.path} has ${other.clean.regionCount} regions`);
  }
  const onlyHere =
    image.clean.regionCount === other.clean.regionCount ? onlyIn(image.clean, other.clean) : null;
  lines.push(
    differing.count === 0
      ? `the same regions are clean as in ${other.path}`
      : `differs from ${other.path} in ${differing.count} regions${runsText(differing, true)}`,
  );
  if (onlyHere !== null && differing.count > 0) {
    lines.push(
      `clean only in ${image.path}: ${onlyHere}; only in ${other.path}: ${differing.count - onlyHere}`,
    );
  }
  return lines;
}

function onlyIn(a: RegionBitmap, b: RegionBitmap): number {
  const only = new RegionBitmap(a.regionCount);
  only.copyFrom(a);
  only.andNot(b);
  return only.count;
}

function asJson(image: Image, other: Image | null, differing: RegionBitmap | null): object {
  const { path, sizeBytes, header, clean, strayBits } = image;
  return {
    path,
    sizeBytes,
    version: header.version,
    regionCount: clean.regionCount,
    cleanCount: clean.count,
    dirtyCount: clean.zeros,
    dirtyRuns: runsOf(clean, false, RUNS_SHOWN),
    strayBits,
    ...(other === null || differing === null
      ? {}
      : {
          difference: {
            path: other.path,
            regionCount: other.clean.regionCount,
            regions: differing.count,
            runs: runsOf(differing, true, RUNS_SHOWN),
          },
        }),
  };
}
